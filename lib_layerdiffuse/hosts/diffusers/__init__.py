"""The host for standalone use: SD1.5 and SDXL checkpoints on the diffusers package."""

from .diffusers_host import DiffusersHost
from .loading import Offload
from .sampling import SAMPLERS, Sampling, SamplingStopped

__all__ = ["SAMPLERS", "DiffusersHost", "Offload", "Sampling", "SamplingStopped"]

"""The host for standalone use: SD1.5 and SDXL checkpoints on the diffusers package."""

from .quiet import quiet

with quiet():  # The libraries have advice for whoever imports them.
    from .diffusers_host import DiffusersHost
    from .loading import Offload
    from .sampling import SAMPLERS, Sampling, SamplingStopped

__all__ = ["SAMPLERS", "DiffusersHost", "Offload", "Sampling", "SamplingStopped"]

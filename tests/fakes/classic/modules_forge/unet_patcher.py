"""The UNet's patcher."""

from __future__ import annotations

from clones import OfUnet
from ldm_patched.modules.model_patcher import ModelPatcher


class UnetPatcher(OfUnet, ModelPatcher):
    pass

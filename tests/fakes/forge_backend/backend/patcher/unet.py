"""The UNet's patcher."""

from __future__ import annotations

from clones import OfUnet

from backend.patcher.base import ModelPatcher


class UnetPatcher(OfUnet, ModelPatcher):
    pass

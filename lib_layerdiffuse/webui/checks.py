"""What can be refused before the checkpoint is loaded."""

from __future__ import annotations

from typing import Any

from ..errors import MissingCapabilityError


def check_job(p: Any) -> None:
    """Checks what can be seen before the checkpoint is loaded.

    Raises:
        MissingCapabilityError: The job uses something that the methods cannot work with.
    """
    if getattr(p, "enable_hr", False):
        raise MissingCapabilityError(
            "Expected a job without hires fix, since it does not keep transparency yet.",
            "Turn off Hires. fix, or LayerDiffuse.",
        )
    if getattr(p, "refiner_checkpoint", None) not in (None, "", "None", "none"):
        raise MissingCapabilityError(
            "Expected a job without a refiner, since it would drop the method halfway.",
            "Turn off the refiner, or LayerDiffuse.",
        )
    if getattr(p, "image_mask", None) is not None:
        raise MissingCapabilityError(
            "Expected a job without an inpaint mask, since it does not keep transparency yet.",
            "Use the img2img tab without a mask, or turn off LayerDiffuse.",
        )

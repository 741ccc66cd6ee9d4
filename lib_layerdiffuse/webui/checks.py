"""What can be refused before the checkpoint is loaded."""

from __future__ import annotations

import re
from typing import Any

from ..errors import MissingCapabilityError, SettingsError
from ..methods import Layer, PatchKind
from ..settings import LayerSettings

_EXTRA_NETWORK = re.compile(r"<\w+:[^<>]+>")


def check_job(p: Any, settings: LayerSettings) -> None:
    """Checks that the job uses nothing that the method cannot work with.

    Raises:
        MissingLayerError: A picture is missing.
        MissingCapabilityError: The job uses what would drop transparency or the method.
        SettingsError: A layer prompt holds what acts on the whole batch only.
    """
    settings.check_pictures()
    _check_options(p)
    _check_token_merging(p, settings)
    check_layer_prompts(settings)


def _check_options(p: Any) -> None:
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


def _check_token_merging(p: Any, settings: LayerSettings) -> None:
    """Token merging pairs each row's tokens in its own way, so frames would no longer meet."""
    method = settings.method
    by_place = method.frames > 1 or method.uses_control
    shares = method.patch is PatchKind.ATTENTION_SHARING and by_place
    ratio = getattr(p, "get_token_merging_ratio", lambda: 0)()
    if shares and ratio:
        raise MissingCapabilityError(
            f"Expected a job without token merging for this method, got a ratio of {ratio:g}.",
            "Set the token merging ratio to 0 in the settings, or turn off LayerDiffuse.",
        )


def check_layer_prompts(settings: LayerSettings) -> None:
    """Checks that the layers' own prompts hold nothing that acts on the whole batch.

    Raises:
        SettingsError: One does; `field` names it.
    """
    for layer in Layer:
        for name in (f"{layer.value}_prompt", f"{layer.value}_negative_prompt"):
            tag = _EXTRA_NETWORK.search(getattr(settings, name))
            if tag:
                raise SettingsError(
                    f"Expected a layer prompt without extra networks, got {tag[0]}.",
                    "Put it into the main prompt: it acts on all layers.",
                    field=name,
                )

"""What can be refused before sampling, most of it before the checkpoint is loaded."""

from __future__ import annotations

from typing import Any

from ...errors import MissingCapabilityError
from ...methods import PatchKind
from ...settings.chains import check_chain
from ...settings.layer_settings import LayerSettings
from .arguments import selected_script
from .hires import check_hires
from .layer_prompts import check_layer_prompts


def check_job(p: Any, settings: LayerSettings) -> None:
    """Checks that the job uses nothing that the method cannot work with.

    Raises:
        MissingLayerError: A picture is missing.
        ArchMismatchError: Hires fix has a checkpoint of another family.
        MissingCapabilityError: The job uses what would drop transparency or the method.
        SettingsError: The method begins no chain, though one is asked for, or a layer prompt holds
            what acts on the whole batch only.
    """
    check_chain(settings)
    settings.check_pictures()
    _check_options(p)
    check_hires(p, settings.method)
    _check_chain(p, settings)
    check_layer_prompts(settings)


def _check_options(p: Any) -> None:
    if selected_script(p) == "SD upscale":
        raise MissingCapabilityError(
            "Expected a job without SD upscale, which puts its tiles together without transparency "
            "and knows no sets.",
            "Use Hires. fix, or upscale a finished picture in the Extras tab, which can keep its "
            "transparency.",
        )
    if getattr(p, "refiner_checkpoint", None) not in (None, "", "None", "none"):
        raise MissingCapabilityError(
            "Expected a job without a refiner, since it would drop the method halfway.",
            "Turn off the refiner, or LayerDiffuse.",
        )


def _check_chain(p: Any, settings: LayerSettings) -> None:
    """The second step draws at the first one's size, not at that of its hires fix."""
    if settings.chain and getattr(p, "enable_hr", False):
        raise MissingCapabilityError(
            "Expected a chain without hires fix, which would enlarge its first step alone.",
            "Turn off Hires. fix, or run the two methods one after the other.",
            field="chain",
        )


def check_token_merging(p: Any, settings: LayerSettings) -> None:
    """Checks that frames meet: token merging would pair each row's tokens in its own way.

    The host's options decide, and it applies the job's own over them after its first hook.

    Raises:
        MissingCapabilityError: Tokens would be merged, and the method's frames meet by their place.
    """
    method = settings.method
    by_place = method.frames > 1 or method.uses_control
    shares = method.patch is PatchKind.ATTENTION_SHARING and by_place
    ratio = _token_merging_ratio(p)
    if shares and ratio:
        raise MissingCapabilityError(
            f"Expected a job without token merging for this method, got a ratio of {ratio:g}.",
            "Set the token merging ratio to 0 in the settings, or turn off LayerDiffuse.",
        )


def _token_merging_ratio(p: Any) -> float:
    """Returns the largest ratio of a job's passes."""
    ratio = getattr(p, "get_token_merging_ratio", None)
    if ratio is None:
        return 0
    return max(ratio(), ratio(for_hr=True) if getattr(p, "enable_hr", False) else 0)

"""What can be refused before sampling, most of it before the checkpoint is loaded."""

from __future__ import annotations

from typing import Any

from ...errors import MissingCapabilityError, SettingsError
from ...host import Capabilities
from ...imaging.masks import MaskSource
from ...methods import PatchKind
from ...settings.chains import check_chain
from ...settings.layer_settings import LayerSettings
from .arguments import is_called, selected_script
from .choices import OWNERS
from .hires import check_hires
from .layer_prompts import check_layer_prompts, composes

_ENLARGING = ("SD upscale", "Ultimate SD upscale")
_OUTPAINTING = ("Poor man's outpainting", "Outpainting mk2")
"""Titles of scripts that put an image of their own together; nothing else tells them."""


def check_job(p: Any, settings: LayerSettings) -> None:
    """Checks that the job uses nothing that the method cannot work with.

    Raises:
        MissingLayerError: An image is missing.
        ArchMismatchError: Hires fix has a checkpoint of another family.
        MissingCapabilityError: The job uses what would drop transparency or the method.
        SettingsError: The method begins no chain, though one is asked for, a layer prompt holds
            what acts on the whole batch only, or an option of the owner's is to be set.
    """
    check_chain(settings)
    settings.check_images()
    _check_overrides(p)
    _check_options(p)
    check_hires(p, settings.method)
    _check_chain(p, settings)
    check_layer_prompts(settings)


def _check_overrides(p: Any) -> None:
    """The host leaves such overrides out without a word."""
    for name in OWNERS:
        if name in getattr(p, "override_settings", {}):
            raise SettingsError(
                f"The option {name} cannot be set for a job, nor over the API.",
                "Leave it out; the server's owner chooses it under Settings, LayerDiffuse.",
                field=name,
            )


def _check_options(p: Any) -> None:
    script = selected_script(p)
    if script is not None:
        _check_script(p, script)
    if getattr(p, "refiner_checkpoint", None) not in (None, "", "None", "none"):
        raise MissingCapabilityError(
            "LayerDiffuse does not work with the refiner, which would drop the method halfway.",
            "Turn the refiner off for this job.",
        )


def _check_script(p: Any, script: str) -> None:
    """Checks that the selectable script leaves layers and their sampling as they are."""
    if is_called(script, *_ENLARGING):
        raise MissingCapabilityError(
            f"LayerDiffuse does not work with {script}, which puts its tiles together without "
            "transparency.",
            "Use Hires. fix, or upscale the finished image in the Extras tab, which can keep its "
            "transparency.",
        )
    if is_called(script, *_OUTPAINTING):
        raise MissingCapabilityError(
            f"LayerDiffuse does not work with {script}, which puts its parts together without "
            "transparency and other layers.",
            "Give the image transparent margins in an image editor, and inpaint it with the script "
            f'off and Redraw set to "{MaskSource.TRANSPARENT.value}".',
        )
    if "sample" in vars(p):
        raise MissingCapabilityError(
            f"LayerDiffuse does not work with {script}, which samples in a way of its own, past "
            "the layer method.",
            "Choose another script, or none.",
        )


def _check_chain(p: Any, settings: LayerSettings) -> None:
    """The second step draws at the first one's size, not at that of its hires fix."""
    if settings.chain and getattr(p, "enable_hr", False):
        raise MissingCapabilityError(
            "The other layer cannot be extracted with Hires. fix, which would enlarge the first "
            "step alone.",
            "Turn off Hires. fix, or run the two methods one after the other.",
            field="chain",
        )


def check_capabilities(p: Any, settings: LayerSettings, can: Capabilities) -> None:
    """Checks that the host can do what the job asks of it.

    Raises:
        MissingCapabilityError: It cannot, though others can.
    """
    if settings.acts and settings.stop_at < 1 and not can.stops_midway:
        raise MissingCapabilityError(
            "In this WebUI, as it was started, a method cannot stop before the last step.",
            "Set Stop at to 1.",
            field="stop_at",
        )
    method = settings.method
    by_place = method.frames > 1 or method.uses_control
    if by_place and composes(p) and not can.composes_sets:
        raise MissingCapabilityError(
            "This WebUI mixes up the layers of a set where AND joins prompts.",
            "Take AND out of the prompt, or choose a method that makes one layer.",
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
            f"This method does not work with token merging, whose ratio is {ratio:g}.",
            "Set the token merging ratio to 0 in the settings.",
        )


def _token_merging_ratio(p: Any) -> float:
    """Returns the largest ratio of a job's passes."""
    ratio = getattr(p, "get_token_merging_ratio", None)
    if ratio is None:
        return 0
    return max(ratio(), ratio(for_hr=True) if getattr(p, "enable_hr", False) else 0)

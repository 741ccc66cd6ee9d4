"""Methods one after the other: which comes next, and the author's choices for a second step.

A chain is two methods: the first puts a given layer into a blended image, the second takes the
layer that is missing out of the two.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass, replace
from typing import Any

from ..errors import SettingsError
from ..imaging.images import AnyImage
from ..methods import METHODS, Layer, LayerMethod
from .layer_settings import PROMPTS, LayerSettings


@dataclass(frozen=True)
class AuthorsChoice:
    """What the original's author took for a second step.

    Other samplers than in first steps: the DPM++ ones leave artefacts there.

    Source: the images in the original extension's README, by their infotexts.
    """

    sampler: str
    stop_at: float


SECOND_STEPS = {
    "fg_blended_to_bg_sdxl": AuthorsChoice("UniPC", 0.5),
    "bg_blended_to_fg_sdxl": AuthorsChoice("Euler a", 1.0),
}
"""The author's choice for each method that ends a chain, by id."""


def begins_chain(method: LayerMethod) -> bool:
    """Whether another method goes on with what this one is given and makes."""
    return _second(method) is not None


def second_method(first: LayerMethod) -> LayerMethod:
    """Returns the method that goes on where another one ends.

    Raises:
        SettingsError: It begins no chain; `field` is the method.
    """
    second = _second(first)
    if second is None:
        ids = ", ".join(method.id for method in METHODS if begins_chain(method))
        raise SettingsError(
            f"{first.label} has no other layer to extract.",
            f"Turn that off, or choose one of: {ids}.",
            field="method",
        )
    return second


def _second(first: LayerMethod) -> LayerMethod | None:
    there = {*first.inputs, *first.outputs}
    of_family = (method for method in METHODS if method.arch is first.arch and first.inputs)
    return next((method for method in of_family if set(method.inputs) == there), None)


def check_chain(settings: LayerSettings) -> None:
    """Checks that a chain is asked for only where the method begins one.

    Raises:
        SettingsError: It begins none; `field` is the method.
    """
    if settings.chain:
        second_method(settings.method)


def steps(method: LayerMethod, chain: bool) -> tuple[LayerMethod, ...]:
    """Returns the methods that run one after the other: one alone, or the chain that it begins."""
    return (method, second_method(method)) if chain and begins_chain(method) else (method,)


def prompted_layers(method: LayerMethod, chain: bool) -> tuple[Layer, ...]:
    """Returns the layers that may have a prompt of their own, in a chain or without."""
    run = steps(method, chain)
    if len(run) == 1:
        return method.layer_prompts
    return tuple(layer for one in run for layer in one.outputs)


def unread(method: LayerMethod, given: Collection[str], chain: bool) -> list[str]:
    """Returns what was given of images and layers' own prompts that the method has no use for.

    Args:
        method: What makes the layers.
        given: Names of fields.
        chain: Whether the chain that it begins runs.
    """
    prompted = prompted_layers(method, chain)
    found = []
    for layer in Layer:
        if layer not in method.inputs:
            found.append(f"{layer.value}_image")
        if layer not in prompted:
            found += [f"{layer.value}_prompt", f"{layer.value}_negative_prompt"]
    return [name for name in found if name in given]


def second_settings(
    settings: LayerSettings, blended: AnyImage | None = None, *, stop_at: float | None = None
) -> LayerSettings:
    """Returns the settings of a chain's second step.

    The layers' own prompts are left out: `step_prompt` puts them into the main ones.

    Args:
        settings: The first step's.
        blended: What the first step made.
        stop_at: In place of the author's.

    Raises:
        SettingsError: The method begins no chain.
    """
    method = second_method(settings.method)
    author = SECOND_STEPS[method.id].stop_at
    changed = replace(settings, method=method, stop_at=author if stop_at is None else stop_at)
    return replace(without_layer_prompts(changed), chain=False, blended_image=blended)


def without_layer_prompts(settings: LayerSettings) -> LayerSettings:
    """Returns the settings without any layer's own prompt."""
    blank: dict[str, Any] = dict.fromkeys(PROMPTS, "")
    return replace(settings, **blank)


def step_prompt(own: str, main: str) -> str:
    """Returns a layer's own prompt, a comma, and the main one; or what there is of them."""
    return ", ".join(part for part in (own, main) if part)


def next_method(
    layer: Layer, *, made: LayerMethod | None, current: LayerMethod, filled: Set[Layer]
) -> LayerMethod:
    """Returns the method to go on with once a result is put into a layer's slot.

    It takes that layer and is of the result's family, if any method there does. One that lacks no
    image comes before others, then the one that is chosen already, then one that has no use for
    images of other origin, then the one that needs fewest.

    Args:
        layer: The slot.
        made: What made the result; None if no layer method did.
        current: The method that is chosen now.
        filled: The other slots that hold an image.
    """
    family = (made or current).arch
    related = {layer, *(made.inputs if made else ())}

    def rank(method: LayerMethod) -> tuple[bool, int, bool, int, int]:
        foreign = set(method.inputs) - related
        return (
            method.arch is not family,
            len(foreign - filled),
            method is not current,
            len(foreign),
            len(method.inputs),
        )

    return min((method for method in METHODS if layer in method.inputs), key=rank)

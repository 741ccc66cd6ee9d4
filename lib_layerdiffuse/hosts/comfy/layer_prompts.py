"""Conditionings of a set's own layers, in the place of the sampler's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import lcm
from typing import Any

import torch
from torch import Tensor

from ...errors import MissingCapabilityError, SettingsError
from .comfy_parts import Comfy
from .unet_calls import UnetCall, wrapper

PROMPTS = "layerdiffuse prompts"
_POSITIVE = 0  # As `cond_or_uncond` calls the chunks of a call.
_MIDDLE = "middle"  # A guider's third conditioning, by which it puts the negative one first.

Conditioning = Sequence[Sequence[Any]]
"""As nodes hand it on: entries of a prompt's tokens, `b n d`, and of what else belongs to it."""


def put_prompts(comfy: Comfy, unet: Any, frames: int, own: Mapping[int, Conditioning]) -> None:
    """Makes some layers of each set follow prompts of their own, in every run of a MODEL.

    The sampler's own conditioning stays what it is, for the other layers and for other models;
    negative ones act on all layers.

    Args:
        comfy: The dialect.
        unet: The MODEL's patcher, which is changed.
        frames: Layers of a set.
        own: Conditionings by the layer's frame. Several entries of one are put behind each other.
    """
    tokens = {frame: _tokens(given) for frame, given in own.items()}

    def run(executor: Any, *given: Any, **more: Any) -> Any:
        if _MIDDLE in executor.class_obj.conds:
            raise MissingCapabilityError(
                "Dual CFG Guider hands on its conditionings in an order of its own, where a "
                "layer's prompt would come into the negative one.",
                "Use Layer prompts before the guider instead of the LayerDiffuse node's inputs.",
            )
        return executor(*given, **more)

    def call(given: UnetCall) -> Any:
        chunks = given.options["cond_or_uncond"]
        if given.context is not None and _POSITIVE in chunks:
            context = _with_own(given.context, tokens, chunks, frames)
            given = replace(given, context=context)
        return given.run()

    unet.add_wrapper_with_key(comfy.around_sampler, PROMPTS, run)
    unet.add_wrapper_with_key(comfy.around_unet, PROMPTS, wrapper(call))


def rows_of(main: Conditioning, frames: int, own: Mapping[int, Conditioning]) -> list[Any]:
    """Returns one conditioning with a row for each layer of a set, which samplers repeat.

    Args:
        main: Of the layers without one of their own.
        frames: Layers of a set.
        own: As in `put_prompts`.
    """
    tokens = {frame: _tokens(given) for frame, given in own.items()}
    context = _tokens(main).expand(frames, -1, -1)
    return [[_with_own(context, tokens, [_POSITIVE], frames), main[0][1]]]


def _tokens(given: Conditioning) -> Tensor:
    """Returns a conditioning's tokens, `1 n d`."""
    if not given:
        raise SettingsError(
            "A layer's conditioning is empty.", "Connect the output of CLIP Text Encode."
        )
    return torch.cat([entry[0][:1] for entry in given], dim=1)


def _with_own(
    context: Tensor, own: Mapping[int, Tensor], chunks: Sequence[int], frames: int
) -> Tensor:
    """Returns a call's context `b n d` with the layers' own prompts, all of one length.

    As in ComfyUI itself, shorter ones are repeated, which changes nothing in attention.
    """
    length = lcm(context.shape[1], *(tokens.shape[1] for tokens in own.values()))
    changed = context.repeat(1, length // context.shape[1], 1)
    rows = len(context) // len(chunks)
    for frame, tokens in own.items():
        mine = tokens.repeat(1, length // tokens.shape[1], 1).to(changed)
        for place, kind in enumerate(chunks):
            if kind == _POSITIVE:
                changed[place * rows + frame : (place + 1) * rows : frames] = mine
    return changed

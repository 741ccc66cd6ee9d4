"""Attention sharing agrees with another program; see original/README.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import sharing_golden as made
import torch
from safetensors.torch import load_file
from thinned import thinned
from torch import Tensor, nn

from lib_layerdiffuse.nets.attention_sharing import AttentionSharing, BaseAttention, SharingRun
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

HERE = Path(__file__).parent / "original"
TOLERANCE = 1e-4
CASES = [(frames, control) for frames in (1, 2, 3) for control in (False, True)]
File = dict[str, Tensor]


@cache
def golden(control: bool) -> File:
    return load_file(HERE / f"sharing_{'control' if control else 'plain'}.safetensors")


@cache
def file_of(frames: int, control: bool) -> File:
    return made.sharing_file(frames, control)


@cache
def control_picture() -> Tensor:
    """Returns the control image in [-1, 1], `1 3 H W`."""
    flat = load_file(HERE / "control.safetensors")["flat"]
    return flat.permute(2, 0, 1).unsqueeze(0) * 2 - 1


def base_of(module: str) -> BaseAttention:
    linears: dict[str, nn.Linear] = {}
    weights = made.base_weights(module)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        linears[name] = nn.Linear(*weight.T.shape, bias=bias is not None)
        linears[name].load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return BaseAttention(made.HEADS, *linears.values())


@torch.no_grad()
def outputs(file: File, frames: int, control: Tensor | None, rows: Tensor | None = None) -> File:
    """Returns what each attention module of a UNet computes, by its name there."""
    run = SharingRun(AttentionSharing.from_state_dict(file, 1.0), control)
    found = {}
    for module, level in made.modules().items():
        x, context = made.hidden(level, frames), None
        if rows is not None:
            x = x[rows]
        if module.endswith("attn2"):
            context = made.context(frames)
            context = context if rows is None else context[rows]
        found[module] = run(ATTENTION_SLOTS.index(module), base_of(module), x, context)
    return found


def error(got: Tensor, want: Tensor) -> float:
    """Returns the largest difference, relative to the largest number."""
    return float((got - want).abs().max() / want.abs().max())


def errors(found: File, frames: int, control: bool) -> dict[str, float]:
    """Returns the error of each module's output."""
    tag = f"{frames}.{'control' if control else 'plain'}"
    return {name: error(got, golden(control)[f"{tag}.{name}"]) for name, got in found.items()}


@pytest.mark.parametrize(("frames", "control"), CASES)
def test_each_of_the_32_layers_agrees(frames: int, control: bool) -> None:
    picture = control_picture() if control else None
    found = errors(outputs(file_of(frames, control), frames, picture), frames, control)
    assert len(found) == len(ATTENTION_SLOTS)
    assert max(found.values()) <= TOLERANCE, found


@torch.no_grad()
def test_a_layers_own_prompt_is_the_context_of_its_positive_rows() -> None:
    frames, module = 3, "output_blocks.4.1.transformer_blocks.0.attn2"
    context = made.context(frames).clone()
    for frame in (0, 2):  # of the first set; the second is the negative one
        context[frame] = made.prompt(frame)
    run = SharingRun(AttentionSharing.from_state_dict(file_of(frames, False), 1.0))
    x = made.hidden(made.modules()[module], frames)
    got = run(ATTENTION_SLOTS.index(module), base_of(module), x, context)
    want = golden(False)[f"3.prompts.{module}"]
    assert error(got, want) <= TOLERANCE
    assert error(got, golden(False)[f"3.plain.{module}"]) > 100 * TOLERANCE


def _swapped_frames(file: File) -> File:
    names = {"lora.0": "lora.1", "lora.1": "lora.0"}
    return {_renamed(key, names): tensor for key, tensor in file.items()}


def _swapped_control(file: File) -> File:
    names = {"convs.0": "convs.1", "convs.1": "convs.0"}
    return {_renamed(key, names): tensor for key, tensor in file.items()}


def _renamed(key: str, names: dict[str, str]) -> str:
    return next((key.replace(old, new) for old, new in names.items() if old in key), key)


def _without(part: str) -> Callable[[File], File]:
    return lambda file: {k: t * 0 if part in k else t for k, t in file.items()}


def _transposed(part: str) -> Callable[[File], File]:
    return lambda file: {k: t.mT if part in k and t.ndim == 2 else t for k, t in file.items()}


def _other_order(file: File) -> File:
    """Returns the file with two layers of one shape in each other's place."""
    return {
        key.replace(".layers.14.", ".layers.x.")
        .replace(".layers.16.", ".layers.14.")
        .replace(".layers.x.", ".layers.16."): tensor
        for key, tensor in file.items()
    }


WRONG_FILES = {
    "frames swapped": _swapped_frames,
    "control of the frames swapped": _swapped_control,
    "no attention over frames": _without("temporal_o"),
    "no bias of the frames' norm": _without("temporal_n.bias"),
    "no bias of the control's last layer": _without(".2.bias"),
    "a temporal matrix transposed": _transposed("temporal_v.weight"),
    "no LoRA on the values": _without("to_v_lora"),
    "no LoRA on the output": _without("to_out_lora"),
}


@pytest.mark.parametrize("wrong", thinned(WRONG_FILES, 2))
def test_golden_can_tell_a_wrong_file(wrong: str) -> None:
    file = WRONG_FILES[wrong](file_of(2, True))
    found = errors(outputs(file, 2, control_picture()), 2, True)
    assert min(found.values()) > 10 * TOLERANCE, found


def test_golden_can_tell_layers_in_another_order() -> None:
    found = errors(outputs(_other_order(file_of(2, True)), 2, control_picture()), 2, True)
    moved = {ATTENTION_SLOTS[i] for i in (14, 16)}
    assert {name for name, wrong in found.items() if wrong > 10 * TOLERANCE} == moved


def test_golden_can_tell_a_dropped_control_picture() -> None:
    found = errors(outputs(file_of(2, True), 2, None), 2, True)
    assert min(found.values()) > 10 * TOLERANCE, found


@pytest.mark.parametrize("wrong", ["mirrored", "in [0, 1]"])
def test_golden_can_tell_a_wrong_control_picture(wrong: str) -> None:
    picture = control_picture()
    picture = picture.flip(3) if wrong == "mirrored" else (picture + 1) / 2
    found = errors(outputs(file_of(2, True), 2, picture), 2, True)
    assert min(found.values()) > 10 * TOLERANCE, found


@pytest.mark.parametrize("control", [False, True])
def test_golden_can_tell_frames_outside_sets(control: bool) -> None:
    """Rows in the order `(f b)` are no sets; what comes out is put back into `(b f)`."""
    picture = control_picture() if control else None
    rows = torch.arange(4).reshape(2, 2).T.flatten()
    found = outputs(file_of(2, control), 2, picture, rows)
    wrong = errors({name: got[rows] for name, got in found.items()}, 2, control)
    assert min(wrong.values()) > 10 * TOLERANCE, wrong

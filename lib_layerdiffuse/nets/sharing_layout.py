"""What an attention-sharing file has to hold, to the last tensor.

Source: the released files' keys and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import ChecksumError

PREFIX = "hookers.layers."
ENCODER = "kwargs_encoder."
SLOTS = 32
HINT = "Download the file again, or choose the method that it was made for."

_PROJECTIONS = ("q", "k", "v", "out")
_STAGES = ((0, range(0, 16, 2)), *((stage, (0, 2)) for stage in (1, 2, 3)))


@dataclass(frozen=True)
class SharingLayout:
    """What a sharing file is made for.

    Attributes:
        frames: Images in a set.
        control: Whether it reads an image.
    """

    frames: int
    control: bool


def layout_of(tensors: Mapping[str, Tensor]) -> SharingLayout:
    """Returns what a sharing file's tensors are made for.

    Raises:
        ChecksumError: A tensor is missing, surplus, of another shape or not floating point.
    """
    frames = 0
    while f"{PREFIX}0.to_q_lora.{frames}.up.weight" in tensors:
        frames += 1
    if not frames:
        first = min(tensors, default="nothing")
        raise ChecksumError(
            f"The file is damaged or not one of an SD1.5 method: it holds {first}.", HINT
        )
    layout = SharingLayout(frames, any(key.startswith(ENCODER) for key in tensors))
    _check_keys(tensors, layout)
    for slot in range(SLOTS):
        _check_shapes(tensors, f"{PREFIX}{slot}.", layout)
    return layout


def _check_keys(tensors: Mapping[str, Tensor], layout: SharingLayout) -> None:
    wanted = set(_keys(layout))
    for fault, keys in (("lacks", wanted - set(tensors)), ("also holds", set(tensors) - wanted)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ChecksumError(
                f"The file is damaged or not one of an SD1.5 method: it {fault} {min(keys)}{more}.",
                HINT,
            )
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ChecksumError(f"The file is damaged: its {key} is not floating point.", HINT)


def _keys(layout: SharingLayout) -> Iterator[str]:
    for slot in range(SLOTS):
        layer, frames = f"{PREFIX}{slot}.", range(layout.frames)
        for part in ("weight", "bias"):
            yield from (f"{layer}temporal_{name}.{part}" for name in "iqkvon")
            if layout.control:
                yield from (f"{layer}control_convs.{f}.{i}.{part}" for f in frames for i in (0, 2))
        for name in _PROJECTIONS:
            for f in frames:
                yield from (f"{layer}to_{name}_lora.{f}.{part}.weight" for part in ("up", "down"))
    if layout.control:
        for stage, numbers in _STAGES:
            for i in numbers:
                yield from (f"{ENCODER}blocks_{stage}.{i}.{part}" for part in ("weight", "bias"))


def _check_shapes(tensors: Mapping[str, Tensor], layer: str, layout: SharingLayout) -> None:
    """Checks one layer's shapes against each other: its channels, and each projection's rank."""
    (channels,) = tensors[f"{layer}temporal_n.weight"].shape[-1:] or (0,)
    wanted: dict[str, tuple[int, ...]] = {}
    for part in ("weight", "bias"):
        wanted[f"{layer}temporal_n.{part}"] = (channels,)
    for name in "iqkvo":
        wanted[f"{layer}temporal_{name}.weight"] = (channels, channels)
        wanted[f"{layer}temporal_{name}.bias"] = (channels,)
    for name in _PROJECTIONS:
        down = tuple(tensors[f"{layer}to_{name}_lora.0.down.weight"].shape)
        for f in range(layout.frames):
            wanted[f"{layer}to_{name}_lora.{f}.up.weight"] = (channels, *down[:1])
            wanted[f"{layer}to_{name}_lora.{f}.down.weight"] = (*down[:1], *down[-1:])
    for f in range(layout.frames if layout.control else 0):
        signal = tuple(tensors[f"{layer}control_convs.{f}.0.bias"].shape[:1])
        wanted[f"{layer}control_convs.{f}.0.weight"] = (*signal, *signal, 3, 3)
        wanted[f"{layer}control_convs.{f}.2.weight"] = (channels, *signal, 1, 1)
        wanted[f"{layer}control_convs.{f}.2.bias"] = (channels,)
    for key, shape in wanted.items():
        if tuple(tensors[key].shape) != shape:
            raise ChecksumError(
                f"The file is damaged: its {key} has the shape {list(tensors[key].shape)}, "
                f"where the others' ask for {list(shape)}.",
                HINT,
            )

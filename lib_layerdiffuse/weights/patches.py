"""What a method's weight file does to the UNet, in a form of its own that each host encodes.

Source: the released files' layout, `<model key>::<patch type>::<index>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import ChecksumError
from ..methods import LayerMethod
from ..nets.attention_sharing import AttentionSharing
from ..nets.sharing_layout import SharingLayout

CONV_IN = "diffusion_model.input_blocks.0.0.weight"

_BLOCKS = (
    *(f"input_blocks.{i}" for i in (1, 2, 4, 5, 7, 8)),
    *(f"output_blocks.{i}" for i in range(3, 12)),
    "middle_block",
)
ATTENTION_SLOTS: tuple[str, ...] = tuple(
    f"{block}.1.transformer_blocks.0.{name}" for block in _BLOCKS for name in ("attn1", "attn2")
)
"""The SD1.5 UNet's attention modules in the order of the sharing files' layers, as ldm names."""


@dataclass(frozen=True, eq=False)
class LoRA:
    """W' = W + strength · up @ down, with `up` `out r` and `down` `r in`."""

    up: Tensor
    down: Tensor


@dataclass(frozen=True, eq=False)
class Diff:
    """W' = W + strength · delta; a 4-D W with fewer input channels is zero-padded to delta's."""

    delta: Tensor


WeightPatch = LoRA | Diff


def read_sharing(
    tensors: Mapping[str, Tensor], method: LayerMethod, strength: float
) -> AttentionSharing:
    """Returns the attention-sharing module of an SD1.5 file.

    Raises:
        ChecksumError: The tensors are not those of a sharing file, or the file is for a method
            with other frames or inputs.
    """
    sharing = AttentionSharing.from_state_dict(tensors, strength)
    wanted = SharingLayout(method.frames, method.uses_control)
    if sharing.layout != wanted:
        raise ChecksumError(
            f"{method.weights.filename} is the file of another method: it makes "
            f"{_said(sharing.layout)}, where this method's makes {_said(wanted)}.",
            f"Put the released {method.weights.filename} in its place.",
        )
    return sharing


def read_patches(tensors: Mapping[str, Tensor], method: LayerMethod) -> dict[str, WeightPatch]:
    """Returns the patches of an SDXL file by `diffusion_model.…` key.

    Raises:
        ChecksumError: The keys are not of the released layout, or the file is for a method with
            other inputs.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, slot = key.partition("::")
        parts.setdefault(name, {})[slot] = tensor
    patches = {name: _patch(name, slots) for name, slots in parts.items()}
    conv_in = patches.get(CONV_IN)
    channels = conv_in.delta.shape[1] if isinstance(conv_in, Diff) else 4
    if channels != 4 + method.concat_channels:
        raise ChecksumError(
            f"{method.weights.filename} is the file of another method: its first convolution takes "
            f"{channels} channels, where this method's takes {4 + method.concat_channels}.",
            f"Put the released {method.weights.filename} in its place.",
        )
    return patches


def lacking_layers(keys: Iterable[str]) -> ChecksumError:
    """Returns what is raised where a UNet lacks parameters that patches are for."""
    first, *others = sorted(keys)
    return _misfit(f", whose UNet lacks {1 + len(others)} of its layers, such as {first}")


def check_shape(key: str, patch: WeightPatch, shape: Sequence[int]) -> None:
    """Checks that a patch fits a UNet's parameter; the first convolution's may be wider.

    Args:
        key: The parameter's name.
        patch: For it.
        shape: The parameter's.

    Raises:
        ChecksumError: The patch has another shape.
    """
    if isinstance(patch, LoRA):
        made = [*patch.up.shape[:1], *patch.down.shape[1:]]
        whole = patch.up.shape[1:] == patch.down.shape[:1]
    else:
        made, whole = list(patch.delta.shape), True
    wanted = list(shape)
    if key == CONV_IN and len(made) == len(wanted) and made[1] > wanted[1]:
        wanted[1] = made[1]
    if made != wanted or not whole:
        shapes = f"{made} in the file and {list(shape)} in the UNet"
        raise _misfit(f": {key} has the shape {shapes}")


def _misfit(how: str) -> ChecksumError:
    return ChecksumError(
        f"The method's file does not fit the checkpoint{how}.",
        "Choose an ordinary checkpoint of the method's family, or download the file again.",
    )


def _said(layout: SharingLayout) -> str:
    layers = f"{layout.frames} layer{'s' if layout.frames > 1 else ''}"
    return f"{layers} from {'an image' if layout.control else 'prompts alone'}"


def _patch(name: str, slots: dict[str, Tensor]) -> WeightPatch:
    if slots.keys() == {"lora::0", "lora::1"}:
        return LoRA(slots["lora::0"], slots["lora::1"])
    if slots.keys() == {"diff::0"}:
        return Diff(slots["diff::0"])
    keys = (f"{name}::{slot}".rstrip(":") for slot in sorted(slots))
    raise ChecksumError(
        f"This is no layer method's file: it holds {', '.join(keys)}.",
        "Download the file again, or choose the method that it was made for.",
    )

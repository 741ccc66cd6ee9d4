"""The small attention-sharing files and UNet layers that the golden files were made with."""

from __future__ import annotations

from formula import Shape, numbers, weight
from torch import Tensor

HEADS, RANK, SIGNAL = 4, 2, 256
CHANNELS = (8, 12, 16, 16)  # of the UNet's levels
CONTEXT, CONTEXT_TOKENS, ROWS = 10, 5, 6
CELLS = ((5, 7), (3, 4), (2, 2), (1, 1))  # h w of each level, of an image of 40 × 56
BLOCKS = {
    **{f"input_blocks.{i}": i // 3 for i in (1, 2, 4, 5, 7, 8)},
    **{f"output_blocks.{i}": 2 - (i - 3) // 3 for i in range(3, 12)},
    "middle_block": 3,
}


def modules() -> dict[str, int]:
    """Returns the UNet's level of each attention module, in the order of a sharing file."""
    return {
        f"{block}.1.transformer_blocks.0.{name}": level
        for block, level in BLOCKS.items()
        for name in ("attn1", "attn2")
    }


def base_shapes(module: str) -> dict[str, Shape]:
    """Returns the shapes of the UNet's own attention module."""
    channels = CHANNELS[modules()[module]]
    inner = CONTEXT if module.endswith("attn2") else channels
    return {
        "to_q.weight": (channels, channels),
        "to_k.weight": (channels, inner),
        "to_v.weight": (channels, inner),
        "to_out.0.weight": (channels, channels),
        "to_out.0.bias": (channels,),
    }


def base_weights(module: str) -> dict[str, Tensor]:
    """Returns the weights of the UNet's own attention module."""
    return {k: weight(f"{module}.{k}", shape) for k, shape in base_shapes(module).items()}


def encoder_shapes() -> dict[str, Shape]:
    """Returns the shapes of the control encoder, which has one width only."""
    widths = (3, 32, 32, 64, 64, 128, 128, SIGNAL, SIGNAL)
    convs = [(f"blocks_0.{2 * i}", widths[i], widths[i + 1]) for i in range(8)]
    convs += [(f"blocks_{s}.{i}", SIGNAL, SIGNAL) for s in (1, 2, 3) for i in (0, 2)]
    shapes: dict[str, Shape] = {}
    for name, inner, outer in convs:
        shapes |= {f"{name}.weight": (outer, inner, 3, 3), f"{name}.bias": (outer,)}
    return shapes


def encoder_weights() -> dict[str, Tensor]:
    """Returns the control encoder's weights, by their names in a file."""
    return {
        f"kwargs_encoder.{k}": weight(f"kwargs_encoder.{k}", shape)
        for k, shape in encoder_shapes().items()
    }


def layer_shapes(module: str, frames: int, control: bool) -> dict[str, Shape]:
    """Returns the shapes of one layer of a sharing file."""
    channels = CHANNELS[modules()[module]]
    inner = CONTEXT if module.endswith("attn2") else channels
    shapes: dict[str, Shape] = {"temporal_n.weight": (channels,), "temporal_n.bias": (channels,)}
    for name in "iqkvo":
        shapes[f"temporal_{name}.weight"] = channels, channels
        shapes[f"temporal_{name}.bias"] = (channels,)
    for f in range(frames):
        for name, narrow in (("q", channels), ("k", inner), ("v", inner), ("out", channels)):
            shapes[f"to_{name}_lora.{f}.down.weight"] = RANK, narrow
            shapes[f"to_{name}_lora.{f}.up.weight"] = channels, RANK
        if control:
            shapes[f"control_convs.{f}.0.weight"] = SIGNAL, SIGNAL, 3, 3
            shapes[f"control_convs.{f}.0.bias"] = (SIGNAL,)
            shapes[f"control_convs.{f}.2.weight"] = channels, SIGNAL, 1, 1
            shapes[f"control_convs.{f}.2.bias"] = (channels,)
    return shapes


def sharing_file(frames: int, control: bool) -> dict[str, Tensor]:
    """Returns a sharing file's tensors.

    The 3×3 convolutions over the control signals are the same in each layer: with 256 channels
    they would be most of the work of a test.
    """
    file = encoder_weights() if control else {}
    shared = {
        name: weight(name, (SIGNAL, SIGNAL, 3, 3))
        for name in (f"control_convs.{f}.0.weight" for f in range(frames * control))
    }
    for i, module in enumerate(modules()):
        for name, shape in layer_shapes(module, frames, control).items():
            key = f"hookers.layers.{i}.{name}"
            file[key] = shared[name] if name in shared else weight(key, shape)
    return file


def hidden(level: int, frames: int) -> Tensor:
    """Returns an attention module's input, two sets of rows `(b f) n c`."""
    (height, width), channels = CELLS[level], CHANNELS[level]
    return 2 * numbers(f"x.{level}", (ROWS, height * width, channels))[: 2 * frames]


def context(frames: int) -> Tensor:
    """Returns what the cross-attention modules see of the text, `(b f) m d`."""
    return 2 * numbers("context", (ROWS, CONTEXT_TOKENS, CONTEXT))[: 2 * frames]


def prompt(frame: int) -> Tensor:
    """Returns what they see of a layer's own prompt, `1 m d`."""
    return 2 * numbers(f"prompt.{frame}", (1, CONTEXT_TOKENS, CONTEXT))

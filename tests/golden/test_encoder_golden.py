"""Both halves of the codec agree with another program; see original/README.md."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import formula
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder
from lib_layerdiffuse.imaging.images import from_u8, pad_colours
from lib_layerdiffuse.pipeline import image_tensor

HERE = Path(__file__).parent / "original"
TOLERANCE = 1e-4
ENCODER = load_file(HERE / "encoder.safetensors")
WIDTHS = (4, 32, 32, 64, 64, 128, 128, 256, 256, 4)


def encoder_weights() -> dict[str, Tensor]:
    shapes: dict[str, formula.Shape] = {}
    for i, (inner, outer) in enumerate(pairwise(WIDTHS)):
        shapes[f"blocks.{2 * i}.weight"] = outer, inner, 3, 3
        shapes[f"blocks.{2 * i}.bias"] = (outer,)
    return formula.weights(shapes)


def offset_error(rgba: Tensor) -> float:
    """Returns the largest difference of the offset, relative to the largest number."""
    got = TransparentEncoder.from_state_dict(encoder_weights()).offset(rgba)
    want = ENCODER["offset"]
    return float((got - want).abs().max() / want.abs().max())


def padded() -> Tensor:
    return image_tensor(pad_colours(from_u8(ENCODER["rgba"].numpy())))


def test_colours_are_padded() -> None:
    got = padded()[0, :3].permute(1, 2, 0)
    torch.testing.assert_close(got, ENCODER["padded"], rtol=0, atol=TOLERANCE)


def test_offset() -> None:
    assert offset_error(padded()) <= TOLERANCE


def test_golden_can_tell_unpadded_colours() -> None:
    assert offset_error(image_tensor(from_u8(ENCODER["rgba"].numpy()))) > 100 * TOLERANCE


def test_golden_can_tell_alpha_at_the_end() -> None:
    assert offset_error(padded().roll(1, dims=1)) > 100 * TOLERANCE


@pytest.mark.parametrize("dims", [(2,), (3,)])
def test_golden_can_tell_a_mirrored_picture(dims: tuple[int]) -> None:
    assert offset_error(padded().flip(dims)) > 100 * TOLERANCE


def decoder() -> tuple[TransparentDecoder, dict[str, Tensor]]:
    """Returns the decoder, and what the other program made of its image."""
    with safe_open(HERE / "decoder.safetensors", "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
        golden = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    weights = formula.weights(shapes)
    weights["conv_out.weight"] *= 0.2
    weights["conv_out.bias"] = 0.5 + 0.2 * weights["conv_out.bias"]
    return TransparentDecoder.from_state_dict(weights), golden


PIXELS = (formula.numbers("pixels", (1, 3, 128, 64)) + 1) / 2
LATENT = 2 * formula.numbers("latent", (1, 4, 16, 8))


@torch.no_grad()
def test_one_view_decodes() -> None:
    made, golden = decoder()
    torch.testing.assert_close(made.net(PIXELS, LATENT), golden["single"], rtol=0, atol=TOLERANCE)


def test_eight_views_decode() -> None:
    made, golden = decoder()
    argb = made.decode(PIXELS, LATENT).roll(1, dims=1)
    torch.testing.assert_close(argb, golden["argb"], rtol=0, atol=TOLERANCE)


def test_golden_can_tell_other_decoding() -> None:
    made, golden = decoder()

    def error(pixels: Tensor, latent: Tensor, views: int) -> float:
        argb = made.decode(pixels, latent, views=views).roll(1, dims=1)
        return float((argb - golden["argb"]).abs().max())

    assert error(PIXELS, LATENT, 4) > 100 * TOLERANCE  # no mirrored views
    assert error(PIXELS, LATENT * 0, 8) > 100 * TOLERANCE  # no latent
    assert error(PIXELS, LATENT.flip(3), 8) > 100 * TOLERANCE
    assert error(PIXELS, 1.1 * LATENT, 8) > 10 * TOLERANCE  # another scale

"""The codec gives what the golden files say; see codec/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder

HERE = Path(__file__).parent / "codec"


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the weights and the other tensors of a file."""
    tensors = load_file(HERE / name)
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights")}
    return weights, {k: v for k, v in tensors.items() if not k.startswith("weights")}


def test_decoder() -> None:
    weights, known = golden("decoder.safetensors")
    rgba = TransparentDecoder.from_state_dict(weights).decode(known["pixels"], known["latent"])
    torch.testing.assert_close(rgba, known["rgba"], rtol=0, atol=1e-4)


def test_encoder() -> None:
    weights, known = golden("encoder.safetensors")
    offset = TransparentEncoder.from_state_dict(weights).offset(known["rgba"])
    torch.testing.assert_close(offset, known["offset"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("channel", range(4))
def test_golden_picture_can_tell(channel: int) -> None:
    """An image that is all 0, all 1 or flat would pass whatever the code does."""
    values = golden("decoder.safetensors")[1]["rgba"][:, channel]
    assert ((values > 0) & (values < 1)).float().mean() > 0.8
    assert values.std() > 0.03

"""The decoder's network against diffusers' blocks and the released file's layout."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from codec_oracles import DiffusersUNet1024
from hypothesis import given
from hypothesis import strategies as st
from thinned import thinned
from tiny_codec import (
    LAYOUTS,
    TINY,
    released_shapes,
    seeded_weights,
    tiny_decoder_weights,
    tiny_inputs,
)
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from lib_layerdiffuse.errors import ChecksumError
from lib_layerdiffuse.nets import unet_blocks
from lib_layerdiffuse.nets.unet1024 import UNet1024, UNetLayout
from lib_layerdiffuse.nets.unet_blocks import SelfAttention

REAL = UNetLayout((32, 32, 64, 128, 256, 512, 512), 2, (False,) * 4 + (True,) * 3)
WEIGHTS = tiny_decoder_weights()
KEYS = sorted(WEIGHTS)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", thinned(LAYOUTS, 3))
def test_small_net_agrees_with_diffusers(name: str) -> None:
    layout = LAYOUTS[name]
    weights = tiny_decoder_weights(seed=3, layout=layout)
    pixels, latent = tiny_inputs(64, 128, batch=2)
    with torch.no_grad():
        expected = DiffusersUNet1024.load(weights, **asdict(layout))(pixels, latent)
        actual = UNet1024.from_state_dict(weights)(pixels, latent)
    assert relative_error(actual, expected) < 1e-4


def test_real_net_agrees_with_diffusers() -> None:
    weights = seeded_weights(released_shapes("decoder"))
    pixels, latent = tiny_inputs(64, 64)
    with torch.no_grad():
        expected = DiffusersUNet1024.load(weights, **asdict(REAL))(pixels, latent)
        actual = UNet1024.from_state_dict(weights)(pixels, latent)
    assert relative_error(actual, expected) < 1e-4


class Largest(TorchDispatchMode):
    """Sees how many values the largest tensor has that is made."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(one, torch.Tensor):
                self.values = max(self.values, one.numel())
        return made


def test_attention_makes_no_matrix_of_all_pairs_where_no_kernel_avoids_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    attention, x = SelfAttention(16), torch.randn(2, 16, 12, 20)
    limit = x.numel() * 5
    monkeypatch.setattr(unet_blocks, "_SCORES", limit)
    with torch.no_grad():
        expected = attention(x)
        with sdpa_kernel(SDPBackend.MATH), Largest() as seen:
            made = attention(x)
    assert seen.values <= limit < 2 * 2 * (12 * 20) ** 2
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_every_weight_changes_the_output() -> None:
    """A tensor that is loaded but not used would pass a strict load."""
    net = UNet1024.from_state_dict(WEIGHTS).requires_grad_(True)
    net(*tiny_inputs(64, 128)).square().sum().backward()
    # A key's bias moves all scores of a query alike, which softmax does not see.
    unused = {name for name, p in net.named_parameters() if not p.grad.any()}
    assert all(name.endswith("to_k.bias") for name in unused)


def test_layout_of_the_released_file() -> None:
    shapes = released_shapes("decoder")
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    net = UNet1024.from_state_dict(weights)
    assert UNetLayout.of(weights) == REAL
    assert net.multiple == 64
    assert {name: tuple(p.shape) for name, p in net.state_dict().items()} == shapes
    assert len(shapes) == 538
    assert sum(p.numel() for p in net.parameters()) == 104_104_804


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_read_from_the_weights(name: str) -> None:
    assert UNetLayout.of(tiny_decoder_weights(layout=LAYOUTS[name])) == LAYOUTS[name]


def test_norms_and_heads() -> None:
    norms = [m for m in UNet1024(TINY).modules() if isinstance(m, nn.GroupNorm)]
    assert {(norm.num_groups, norm.eps) for norm in norms} == {(4, 1e-5)}


def test_load_takes_tensors_as_they_are() -> None:
    weights = {name: tensor.half() for name, tensor in WEIGHTS.items()}
    net = UNet1024.from_state_dict(weights)
    assert not net.training
    for name, parameter in net.named_parameters():
        assert parameter.data_ptr() == weights[name].data_ptr()
        assert parameter.dtype is torch.float16
        assert not parameter.requires_grad


def test_load_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    UNet1024.from_state_dict(WEIGHTS)
    assert torch.equal(torch.get_rng_state(), before)


@given(key=st.sampled_from(KEYS))
@pytest.mark.slow
def test_any_missing_tensor_is_an_error(key: str) -> None:
    with pytest.raises(ChecksumError):
        UNet1024.from_state_dict({k: v for k, v in WEIGHTS.items() if k != key})


@given(key=st.sampled_from(KEYS), where=st.sampled_from([0, -1]))
def test_any_misshapen_tensor_is_an_error(key: str, where: int) -> None:
    shape = list(WEIGHTS[key].shape)
    shape[where] += 1
    with pytest.raises(ChecksumError):
        UNet1024.from_state_dict({**WEIGHTS, key: torch.zeros(shape)})


def without(prefix: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in WEIGHTS.items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        pytest.param({}, "has 0 levels", id="empty"),
        pytest.param(
            {"blocks.0.weight": torch.zeros(8, 4, 3, 3)}, "no transparent decoder", id="encoder"
        ),
        pytest.param(without("conv_out.bias"), "missing: conv_out.bias", id="missing"),
        pytest.param({**WEIGHTS, "more": torch.zeros(1)}, "surplus: more", id="surplus"),
        pytest.param(
            {**WEIGHTS, "conv_out.bias": torch.zeros(3)},
            "of another shape: conv_out.bias",
            id="misshapen",
        ),
        pytest.param(
            {**WEIGHTS, "conv_out.bias": torch.zeros(4, dtype=torch.int8)},
            "not floating point: conv_out.bias",
            id="integers",
        ),
        pytest.param(without("down_blocks.6."), "surplus", id="a level missing"),
        pytest.param(without("down_blocks.5.attentions"), "surplus", id="attention missing"),
        pytest.param(
            without("down_blocks.2.resnets.0"),
            "no tensor down_blocks.2.resnets.0.conv1.weight",
            id="a block missing",
        ),
        pytest.param(
            {**WEIGHTS, "down_blocks.0.resnets.0.conv1.weight": torch.zeros(8)},
            "no convolution",
            id="flat convolution",
        ),
        pytest.param(
            {**WEIGHTS, "down_blocks.0.resnets.0.conv1.weight": torch.zeros(6, 8, 3, 3)},
            "heads of 8",
            id="odd width",
        ),
    ],
)
def test_other_files_are_refused(weights: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ChecksumError, match=words) as caught:
        UNet1024.from_state_dict(weights)
    assert caught.value.hint

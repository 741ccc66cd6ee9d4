"""The transparent decoder and encoder: sizes, views, types, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from codec_oracles import decode_by_median, encode_by_hand
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_codec import (
    TINY_ENCODER_WIDTHS,
    released_shapes,
    tiny_decoder_weights,
    tiny_encoder_weights,
    tiny_inputs,
)
from torch import Tensor, nn

from lib_layerdiffuse.codec import transparent
from lib_layerdiffuse.codec.transparent import (
    TransparentDecoder,
    TransparentEncoder,
    adjusted_latent,
    rgba_u8,
)
from lib_layerdiffuse.errors import (
    ArchMismatchError,
    BatchSizeError,
    ChecksumError,
    ImageSizeError,
    LayerDiffuseError,
    SettingsError,
)
from lib_layerdiffuse.nets.offset_encoder import OffsetEncoder

DECODER = TransparentDecoder.from_state_dict(tiny_decoder_weights())
ENCODER = TransparentEncoder.from_state_dict(tiny_encoder_weights())
CELLS = st.integers(1, 20)


class FakeNet(nn.Module):
    """Stands in for the network: a function of pixels and latent, and what it was called with."""

    multiple = 64

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.place = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, pixels: Tensor, latent: Tensor, free: int | None = None) -> Tensor:
        self.calls.append((pixels, latent))
        return self.function(pixels, latent)


def copy_both(pixels: Tensor, latent: Tensor) -> Tensor:
    """Returns A from the latent's first channel and R G B from the image."""
    alpha = latent[:, :1].repeat_interleave(8, 2).repeat_interleave(8, 3)
    return torch.cat([alpha, pixels], dim=1)


def ramps(pixels: Tensor, latent: Tensor) -> Tensor:
    """Returns values that depend on the place, in part beyond [0, 1]."""
    rows = torch.linspace(-0.5, 1.2, pixels.shape[2])[:, None]
    columns = torch.linspace(0.7, -0.3, pixels.shape[3])
    return copy_both(pixels, latent) * rows + columns


def decoder_of(function: Callable[[Tensor, Tensor], Tensor]) -> TransparentDecoder:
    return TransparentDecoder(FakeNet(function))  # type: ignore[arg-type]


def padded(x: Tensor, bottom: int, right: int) -> Tensor:
    margins = ((0, 0), (0, 0), (0, bottom), (0, right))
    return torch.from_numpy(np.pad(x.numpy(), margins, mode="edge"))


# Views and median


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_decode_is_the_median_of_eight_views(size: tuple[int, int]) -> None:
    pixels, latent = tiny_inputs(*size)
    expected = decode_by_median(DECODER.net, pixels, latent)
    torch.testing.assert_close(DECODER.decode(pixels, latent), expected, rtol=1e-5, atol=1e-5)


def test_views_are_clipped_before_the_median() -> None:
    pixels, latent = tiny_inputs(128, 64)
    actual = decoder_of(ramps).decode(pixels, latent)
    expected = decode_by_median(FakeNet(ramps), pixels, latent)
    torch.testing.assert_close(actual, expected)
    assert actual.amin() == 0
    assert actual.amax() == 1


@given(height=CELLS, width=CELLS, views=st.integers(1, 8))
def test_every_view_is_turned_back(height: int, width: int, views: int) -> None:
    """A net that copies its input gives the image and the latent back, whatever the size."""
    pixels, latent = tiny_inputs(8 * height, 8 * width, batch=2)
    latent = latent.sigmoid()
    rgba = decoder_of(copy_both).decode(pixels, latent, views=views)
    assert torch.equal(rgba, copy_both(pixels, latent)[:, [1, 2, 3, 0]])


def test_the_net_sees_eight_different_views() -> None:
    decoder = decoder_of(copy_both)
    decoder.decode(*tiny_inputs(64, 64))
    for inputs in zip(*decoder.net.calls, strict=True):
        assert len({tuple(x.flatten().tolist()) for x in inputs}) == 8


@pytest.mark.parametrize("views", range(1, 9))
def test_on_view_is_told_of_each_view(views: int) -> None:
    calls = []
    decoder = decoder_of(copy_both)
    decoder.decode(*tiny_inputs(64, 64), views=views, on_view=lambda *n: calls.append(n) or True)
    assert calls == [(n, views) for n in range(1, views + 1)]
    assert len(decoder.net.calls) == views


@pytest.mark.parametrize("views", [8, 3, "adaptive"])
def test_views_are_rounded_as_their_median_is(views: int | str) -> None:
    inputs = tiny_inputs(72, 64)
    rounded = DECODER.decode(*inputs, views=views, eight_bit=True)
    assert rounded.dtype is torch.uint8
    (expected,) = rgba_u8(DECODER.decode(*inputs, views=views))
    assert np.array_equal(rgba_u8(rounded)[0], expected)


def test_views_of_one_format_as_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    (pixels, latent), calls = tiny_inputs(72, 64, batch=2), []
    inputs = pixels, latent.sigmoid()
    expected = DECODER.decode(*inputs)
    monkeypatch.setattr(transparent, "_at_once", lambda *_: 4)
    batched = DECODER.decode(*inputs, on_view=lambda *n: calls.append(n))
    assert calls == [(n, 8) for n in range(1, 9)]
    torch.testing.assert_close(batched, expected, rtol=0, atol=1e-5)
    parts = decoder_of(copy_both).decode(*inputs, tile=64)
    torch.testing.assert_close(parts, copy_both(*inputs).roll(-1, 1), rtol=0, atol=1e-5)
    stopped = decoder_of(ramps).decode(*inputs, on_view=lambda done, _: done < 3)
    assert torch.equal(stopped, decoder_of(ramps).decode(*inputs, views=3))


def test_adaptive_takes_two_views_where_they_agree() -> None:
    inputs = tiny_inputs(64, 128)
    decoder = decoder_of(copy_both)
    rgba = decoder.decode(*inputs, views="adaptive")
    assert len(decoder.net.calls) == 2
    assert torch.equal(rgba, decoder.decode(*inputs, views=2))


def test_adaptive_takes_all_views_where_they_disagree() -> None:
    inputs, calls = tiny_inputs(64, 128), []
    decoder = decoder_of(ramps)
    rgba = decoder.decode(*inputs, views="adaptive", on_view=lambda *n: calls.append(n))
    assert calls == [(n, 8) for n in range(1, 9)]
    assert torch.equal(rgba, decoder.decode(*inputs, views=8))


@pytest.mark.parametrize("stop", range(1, 8))
def test_early_stop_gives_the_median_so_far(stop: int) -> None:
    inputs = tiny_inputs(64, 128)
    decoder = decoder_of(ramps)
    stopped = decoder.decode(*inputs, on_view=lambda done, _: done < stop)
    assert len(decoder.net.calls) == stop
    assert torch.equal(stopped, decoder_of(ramps).decode(*inputs, views=stop))


def test_on_view_without_an_answer_goes_on() -> None:
    decoder = decoder_of(copy_both)
    decoder.decode(*tiny_inputs(64, 64), on_view=lambda *_: None)  # type: ignore[arg-type]
    assert len(decoder.net.calls) == 8


def test_an_error_in_on_view_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        DECODER.decode(*tiny_inputs(64, 64), on_view=lambda *_: bool(1 / 0))


# Sizes and batches


@pytest.mark.parametrize("size", [(8, 8), (72, 40), (264, 200)])
def test_any_multiple_of_8_is_padded_and_cropped(size: tuple[int, int]) -> None:
    height, width = size
    pixels, latent = tiny_inputs(height, width)
    bottom, right = -height % 64, -width % 64
    whole = DECODER.decode(
        padded(pixels, bottom, right), padded(latent, bottom // 8, right // 8), views=2
    )
    rgba = DECODER.decode(pixels, latent, views=2)
    assert rgba.shape == (1, 4, height, width)
    assert torch.equal(rgba, whole[..., :height, :width])


@given(height=CELLS, width=CELLS)
def test_picture_and_latent_are_padded_together(height: int, width: int) -> None:
    pixels, latent = tiny_inputs(8 * height, 8 * width)
    decoder = decoder_of(copy_both)
    decoder.decode(pixels, latent, views=1)
    ((seen_pixels, seen_latent),) = decoder.net.calls
    assert torch.equal(seen_pixels, padded(pixels, -8 * height % 64, -8 * width % 64))
    assert torch.equal(seen_latent, padded(latent, -height % 8, -width % 8))


def test_result_does_not_depend_on_the_batch() -> None:
    pixels, latent = tiny_inputs(72, 64, batch=3)
    whole = DECODER.decode(pixels, latent, views=2)
    for i in range(3):
        one = DECODER.decode(pixels[i : i + 1], latent[i : i + 1], views=2)
        assert torch.equal(one[0], whole[i])
    assert not torch.equal(whole[0], whole[1])


def test_inputs_stay_as_they_are() -> None:
    pixels, latent = tiny_inputs(72, 64)
    copies = pixels.clone(), latent.clone()
    rgba = DECODER.decode(pixels, latent, views=1)
    rgba.zero_()
    assert torch.equal(pixels, copies[0])
    assert torch.equal(latent, copies[1])


# Types


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)], ids=str
)
def test_half_precision_is_close(dtype: torch.dtype, tolerance: float) -> None:
    inputs = tiny_inputs(64, 64)
    decoder = TransparentDecoder.from_state_dict(tiny_decoder_weights(), dtype=dtype)
    rgba = decoder.decode(*(x.to(dtype) for x in inputs), views=2)
    expected = DECODER.decode(*inputs, views=2)
    assert rgba.dtype is torch.float32
    assert not torch.equal(rgba, expected)
    torch.testing.assert_close(rgba, expected, rtol=0, atol=tolerance)


def test_half_weights_are_widened() -> None:
    weights = {name: tensor.half() for name, tensor in tiny_decoder_weights().items()}
    decoder = TransparentDecoder.from_state_dict(weights)
    assert {p.dtype for p in decoder.net.parameters()} == {torch.float32}


def test_a_hosts_autocast_changes_no_digit() -> None:
    """Hosts sample under it, and encode before that: a retry in float32 has to be one."""
    inputs, rgba = tiny_inputs(64, 64), torch.rand(1, 4, 64, 64)
    wanted = DECODER.decode(*inputs, views=1), ENCODER.offset(rgba)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = DECODER.decode(*inputs, views=1), ENCODER.offset(rgba)
    assert all(map(torch.equal, found, wanted))


def test_no_gradient_is_kept() -> None:
    pixels, latent = tiny_inputs(64, 64)
    rgba = DECODER.decode(pixels.requires_grad_(), latent.requires_grad_(), views=1)
    assert not rgba.requires_grad
    assert not rgba.is_inference()


# Errors


@pytest.mark.parametrize(
    ("pixels", "latent", "error"),
    [
        ((1, 4, 64, 64), (1, 4, 8, 8), SettingsError),
        ((3, 64, 64), (1, 4, 8, 8), SettingsError),
        ((0, 3, 64, 64), (0, 4, 8, 8), SettingsError),
        ((1, 3, 64, 64), (1, 16, 8, 8), ArchMismatchError),
        ((1, 3, 64, 64), (4, 8, 8), ArchMismatchError),
        ((2, 3, 64, 64), (1, 4, 8, 8), BatchSizeError),
        ((1, 3, 60, 64), (1, 4, 8, 8), ImageSizeError),
        ((1, 3, 64, 68), (1, 4, 8, 8), ImageSizeError),
        ((1, 3, 64, 72), (1, 4, 8, 8), ImageSizeError),
        ((1, 3, 64, 128), (1, 4, 16, 8), ImageSizeError),
        ((1, 3, 0, 64), (1, 4, 0, 8), ImageSizeError),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(pixels: tuple, latent: tuple, error: type[Exception]) -> None:
    with pytest.raises(SettingsError) as caught:
        DECODER.decode(torch.zeros(pixels), torch.zeros(latent))
    assert type(caught.value) is error
    assert caught.value.hint


@pytest.mark.parametrize("views", [0, 9, -1, "many", 2.0])
def test_numbers_of_views_that_there_are_not(views: object) -> None:
    with pytest.raises(SettingsError, match=f"not {views}"):
        DECODER.decode(*tiny_inputs(64, 64), views=views)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_output_that_is_not_finite(value: float) -> None:
    pixels, latent = tiny_inputs(64, 64)
    latent[0, 0, 3, 3] = value
    with pytest.raises(LayerDiffuseError, match="NaN or infinity"):
        DECODER.decode(pixels, latent)


# Encoder


@pytest.mark.parametrize("size", [(8, 8), (72, 40), (64, 128)])
def test_offset_agrees_with_plain_convolutions(size: tuple[int, int]) -> None:
    rgba = torch.rand(2, 4, *size, generator=torch.Generator().manual_seed(0))
    offset = ENCODER.offset(rgba)
    assert offset.shape == (2, 4, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(offset, encode_by_hand(tiny_encoder_weights(), rgba))


def test_layout_of_the_released_encoder() -> None:
    shapes = released_shapes("encoder")
    net = OffsetEncoder.from_state_dict(
        {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    )
    assert {name: tuple(p.shape) for name, p in net.state_dict().items()} == shapes
    assert len(shapes) == 18


def test_encoder_in_half_precision() -> None:
    rgba = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    encoder = TransparentEncoder.from_state_dict(tiny_encoder_weights(), dtype=torch.float16)
    offset = encoder.offset(rgba)
    assert offset.dtype is torch.float32
    torch.testing.assert_close(offset, ENCODER.offset(rgba), rtol=0, atol=0.005)


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((1, 3, 64, 64), SettingsError),
        ((4, 64, 64), SettingsError),
        ((1, 4, 60, 64), ImageSizeError),
        ((1, 4, 64, 4), ImageSizeError),
    ],
    ids=str,
)
def test_pictures_that_cannot_be_encoded(shape: tuple, error: type[Exception]) -> None:
    with pytest.raises(SettingsError) as caught:
        ENCODER.offset(torch.zeros(shape))
    assert type(caught.value) is error


def test_picture_that_is_not_finite() -> None:
    with pytest.raises(LayerDiffuseError, match="NaN or infinity"):
        ENCODER.offset(torch.full((1, 4, 8, 8), torch.nan))


@pytest.mark.parametrize(
    "key", [f"blocks.{2 * i}.{p}" for i in range(9) for p in ("weight", "bias")]
)
def test_encoder_refuses_other_files(key: str) -> None:
    weights = tiny_encoder_weights()
    with pytest.raises(ChecksumError, match=key):
        OffsetEncoder.from_state_dict({k: v for k, v in weights.items() if k != key})
    with pytest.raises(ChecksumError, match=r"blocks\."):
        OffsetEncoder.from_state_dict({**weights, key: torch.zeros(3, *weights[key].shape[1:])})
    with pytest.raises(ChecksumError, match="surplus: more"):
        OffsetEncoder.from_state_dict({**weights, "more": torch.zeros(1)})


def test_tiny_encoder_has_its_widths() -> None:
    convolutions = [m for m in ENCODER.net.modules() if isinstance(m, nn.Conv2d)]
    assert tuple(c.out_channels for c in convolutions) == (*TINY_ENCODER_WIDTHS, 4)


# Latent and image


@pytest.mark.parametrize(("strength", "expected"), [({}, 601.0), ({"strength": 1.0}, 3.0)])
def test_adjusted_latent(strength: dict[str, float], expected: float) -> None:
    one = torch.ones(1, 4, 2, 2)
    latent = adjusted_latent(one, 2 * one, one, **strength)
    assert torch.equal(latent, torch.full_like(one, expected))


def test_adjusted_latent_of_shapes_that_differ() -> None:
    one = torch.ones(1, 4, 2, 2)
    with pytest.raises(ImageSizeError):
        adjusted_latent(one, one, torch.ones(1, 4, 2, 1))


@given(
    picture=hnp.arrays(np.uint8, (2, 4, 3, 5)),
    error=st.floats(-0.49, 0.49, allow_subnormal=False),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_u8_rounds_to_the_nearest(picture: np.ndarray, error: float, dtype: torch.dtype) -> None:
    floats = (torch.from_numpy(picture).to(dtype) + error) / 255
    images = rgba_u8(floats)
    assert [image.dtype for image in images] == [np.uint8] * 2
    np.testing.assert_array_equal(np.stack(images), picture.transpose(0, 2, 3, 1))
    assert all(image.flags["C_CONTIGUOUS"] for image in images)


def test_u8_clips() -> None:
    (image,) = rgba_u8(torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 4, 1, 1))
    assert image.tolist() == [[[0, 0, 255, 255]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_to_half_and_back_loses_nothing(dtype):
    decoder = TransparentDecoder.from_state_dict(tiny_decoder_weights())
    encoder = TransparentEncoder.from_state_dict(tiny_encoder_weights())
    for half in (decoder, encoder):
        before = {name: tensor.clone() for name, tensor in half.net.state_dict().items()}
        cast = {k: x.clone() for k, x in half.net.to(dtype).state_dict().items()}
        assert all(torch.equal(cast[name], before[name].to(dtype)) for name in before)
        after = half.net.to(torch.float32).state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_cast_keeps_the_weights_layout():
    net = TransparentDecoder.from_state_dict(tiny_decoder_weights()).net
    for dtype in (torch.float16, torch.float32):
        net.to(dtype)
        weights = [p for p in net.parameters() if p.ndim == 4]
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)

"""Transparency in and out of a latent: the transparent decoder and encoder.

Source: Zhang & Agrawala, "Transparent Image Layer Diffusion using Latent Transparency",
arXiv:2402.17113.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..callbacks import OnShare
from ..errors import ImageSizeError
from ..nets.compiled import CompiledNet
from ..nets.offset_encoder import OffsetEncoder
from ..nets.unet1024 import UNet1024
from .checks import VAE_SCALE_FACTOR, check_finite, check_image, check_pair
from .tiles import in_strips, in_tiles
from .views import (
    ADAPTIVE,
    VIEWS,
    LowerMedian,
    View,
    Views,
    check_views,
    most_views,
    turn,
    turn_back,
)

OFFSET_STRENGTH = 300.0
_SMALL = 1024 * 1024  # Pixels of an image that leaves a device idle by itself.
_BESIDE = 16
"""Values a pixel that are held beside the network's: images, and the median of the views."""
_AUTOCASTS = ("cpu", "cuda", "xpu")  # Devices on which every torch of ours can compute so.


Net = TypeVar("Net", UNet1024, OffsetEncoder)
Self = TypeVar("Self", bound="_OfNet[Any]")


class _OfNet(Generic[Net]):
    """Half of the codec.

    Args:
        net: Its network. It may be moved to another device or type at any time.
    """

    _kind: type[Net]

    def __init__(self, net: Net) -> None:
        self.net: Net = net

    @classmethod
    def from_state_dict(
        cls: type[Self],
        state_dict: Mapping[str, Tensor],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Returns the decoder or encoder that a weight file holds.

        Args:
            state_dict: The file's tensors.
            dtype: float32, float16 or bfloat16: the type the network computes in.
            device: Where it computes.

        Raises:
            ChecksumError: A tensor is missing, surplus or of the wrong shape.
        """
        net = cls._kind.from_state_dict(state_dict).to(device=device, dtype=dtype)
        # Convolutions are fastest so on most devices; on others it is a matter of taste.
        return cls(net.to(memory_format=torch.channels_last))

    def held(self, pixels: int) -> int:
        """Returns how many values are held for an image of so many pixels, beside the weights."""
        return self.net.held(pixels) + _BESIDE * pixels


class TransparentDecoder(_OfNet[UNet1024]):
    """Finds the colour and alpha of a decoded image."""

    _kind = UNet1024

    def __init__(self, net: UNet1024) -> None:
        super().__init__(net)
        self._compiled = CompiledNet(net)

    def held(self, pixels: int, *, compiled: bool = False) -> int:
        """Returns what the network's half does; `compiled` as in `decode`."""
        return self.net.held(pixels, whole=compiled) + _BESIDE * pixels

    @torch.no_grad()
    def decode(
        self,
        pixels: Tensor,
        latent: Tensor,
        *,
        views: Views = 8,
        tile: int | None = None,
        eight_bit: bool = False,
        free: int | None = None,
        compiled: bool = False,
        on_view: OnShare | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> Tensor:
        """Returns `b 4 H W` in [0, 1], R G B A, straight alpha, float32.

        The network runs on up to eight mirrored and turned views of the image (test-time
        augmentation, or self-ensemble); the result is the element-wise lower median of what it
        makes of them. An image's result does not depend on the rest of its batch.

        Args:
            pixels: `b 3 H W` in [0, 1], R G B, as the VAE decoded them; H and W multiples of 8.
            latent: `b 4 H/8 W/8` on the VAE's scale (the sampler's latent / scaling factor).
            views: How many of the eight views to take: 8 is best, 4, 2 and 1 are faster;
                "adaptive" takes two, and two more while they would change the result.
            tile: Pixels of the sides of the parts that the network sees one by one, which takes
                less memory and differs a little; None for the whole image.
            eight_bit: Whether to return uint8 in 0..255 instead, which takes a fourth of the
                memory: the views are rounded, which gives what rounding their median does.
            free: How many bytes are free on the device; None where nobody knows.
            compiled: Whether to let PyTorch compile the network for the whole image, where it can
                and where that fits; the result is the same but for rounding.
            on_view: Called with (views done, views) after each view; where it returns False, the
                result is the median of the views so far.
            tell: Told why the network could not be compiled, once.

        Raises:
            SettingsError: `views` is no number of views, or `pixels` is no batch of RGB images.
            ArchMismatchError: The latent has other than 4 channels.
            BatchSizeError: As many latents as images are needed.
            ImageSizeError: H or W is not a multiple of 8, or not 8 times the latent's.
            OverflowsError: The network's output is not finite.
        """
        check_views(views)
        check_pair(pixels, latent)
        height, width = pixels.shape[2:]
        inputs = _like_net(self.net, *_pad_together(pixels, latent, self.net.multiple))
        most = most_views(views)
        median = LowerMedian(most)

        def net(pixels: Tensor, latent: Tensor) -> Tensor:
            if compiled and tile is None:
                return self._compiled(pixels, latent, free, tell or (lambda _: None))
            return self.net(pixels, latent, free)

        run = net if tile is None else partial(in_tiles, net, side=tile, step=self.net.multiple)
        step = _at_once(self.net, pixels.shape[2] * pixels.shape[3], free, compiled)
        for view, argb in self._seen(run, inputs, VIEWS[:most], step):
            turned = turn_back(argb.clamp_(0, 1), *view)[..., :height, :width]
            median.add(_eight_bit(turned) if eight_bit else turned)
            done = median.added
            if on_view is not None and on_view(done, most) is False:
                break
            if views == ADAPTIVE and median.settled():
                break
        return median.value.roll(-1, dims=1)

    def _seen(
        self,
        run: Callable[[Tensor, Tensor], Tensor],
        inputs: tuple[Tensor, ...],
        views: Sequence[View],
        step: int,
    ) -> Iterator[tuple[View, Tensor]]:
        """Yields each view and what the network makes of it, `b 4 h w`, float32, A R G B."""
        for first in range(0, len(views), step):
            some = views[first : first + step]
            turned = [torch.stack([turn(x, *view) for view in some], 1) for x in inputs]
            with _own_type(self.net):
                made = [run(*image) for image in zip(*turned, strict=True)]
            check_finite(*made)
            for i, view in enumerate(some):
                parts = [one[i : i + 1] for one in made]
                yield view, (torch.cat(parts) if len(parts) > 1 else parts[0]).float()


class TransparentEncoder(_OfNet[OffsetEncoder]):
    """Finds the offset that hides an image's alpha in its latent."""

    _kind = OffsetEncoder

    @torch.no_grad()
    def offset(self, rgba: Tensor, *, tile: int | None = None) -> Tensor:
        """Returns the latent offset `b 4 H/8 W/8`, float32, on the network's device.

        Args:
            rgba: `b 4 H W` in [0, 1], R G B A, straight alpha; the colour under alpha 0 has to be
                padded from its surroundings. H and W multiples of 8.
            tile: Rows of the strips that the network sees one by one, which takes less memory;
                None for the whole image.

        Raises:
            SettingsError: `rgba` is no batch of RGBA images.
            ImageSizeError: H or W is not a multiple of 8.
            OverflowsError: The network's output is not finite.
        """
        check_image(rgba, "RGBA")
        (argb,) = _like_net(self.net, rgba.roll(1, dims=1))
        net = self.net if tile is None else partial(in_strips, self.net, rows=tile)
        with _own_type(self.net):
            offset: Tensor = net(argb).float()
        check_finite(offset)
        return offset


def adjusted_latent(
    mean: Tensor, std: Tensor, offset: Tensor, strength: float = OFFSET_STRENGTH
) -> Tensor:
    """Returns mean + std · strength · offset: the latent of a transparent image, VAE scale.

    The author's diffusers program multiplies the encoder's output by 300, and so do we; the
    original WebUI extension adds it as it is (strength 1) with the same weights.

    Args:
        mean: `b 4 h w`, mean of the VAE's posterior of the image flattened on 0.5 grey.
        std: `b 4 h w`, its standard deviation.
        offset: `b 4 h w`, from `TransparentEncoder.offset`.
        strength: Factor of the offset.

    Raises:
        ImageSizeError: The three are not of one shape.
    """
    if not mean.shape == std.shape == offset.shape:
        shapes = [list(x.shape) for x in (mean, std, offset)]
        raise ImageSizeError(
            f"Expected mean, std and offset of one shape, got {shapes}.",
            "Use the same image for the VAE and the transparent encoder.",
        )
    return mean + std * (strength * offset)


def rgba_u8(rgba: Tensor) -> list[npt.NDArray[np.uint8]]:
    """Returns each image as `h w 4` uint8 in 0..255, rounded; the alpha kind stays.

    Args:
        rgba: `b 4 H W` in [0, 1], or uint8 already.
    """
    rounded = rgba if rgba.dtype is torch.uint8 else _eight_bit(rgba)
    return list(rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def _eight_bit(x: Tensor) -> Tensor:
    """Returns values in [0, 1] as uint8 in 0..255, rounded."""
    return x.detach().float().clamp(0, 1).mul_(255).round_().to(torch.uint8)


def _at_once(net: UNet1024, pixels: int, free: int | None, compiled: bool) -> int:
    """Returns how many views the network takes as one batch: four, which are of one format, or one.

    A CPU is no faster with more, nor a device that one of them keeps busy.
    """
    idles = pixels <= _SMALL and next(net.parameters()).device.type != "cpu"
    fits = idles and (net.fits_whole if compiled else net.fits)(4 * pixels, free)
    return 4 if fits else 1


def _like_net(net: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Returns the tensors in the type and on the device of the network's parameters."""
    parameter = next(net.parameters())
    return tuple(x.to(device=parameter.device, dtype=parameter.dtype) for x in tensors)


def _own_type(net: nn.Module) -> torch.autocast:
    """Returns a context in which a network computes in its parameters' type, not a host's."""
    kind = next(net.parameters()).device.type
    return torch.autocast(kind if kind in _AUTOCASTS else "cpu", enabled=False)


def _pad_together(pixels: Tensor, latent: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Returns both with their edges repeated right and below up to `multiple` pixels, float32."""
    bottom, right = (-side % (multiple // VAE_SCALE_FACTOR) for side in latent.shape[2:])
    cells = (0, right, 0, bottom)
    return (
        F.pad(pixels.float(), tuple(VAE_SCALE_FACTOR * n for n in cells), mode="replicate"),
        F.pad(latent.float(), cells, mode="replicate"),
    )

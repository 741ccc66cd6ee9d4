"""Images to latents and back through the checkpoint's VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...codec.attempts import Attempt, climb
from ...errors import CodecError, HostError, OverflowsError

OnRetry = Callable[[str], None]
Result = TypeVar("Result")
_SCALE = 8  # Pixels of an image's side to one of its latent's.


def prepare(vae: Any, *, tiling: bool) -> None:
    """Brings a loaded VAE to the type in which its numbers fit, and to tiles if asked.

    Args:
        vae: An `AutoencoderKL`. One that says `force_upcast` overflows in float16.
        tiling: Whether to encode and decode large images in tiles.
    """
    if vae.config.force_upcast and vae.dtype == torch.float16:
        vae.to(torch.float32)
    vae.eval().requires_grad_(False)
    if tiling:
        vae.enable_tiling()


@torch.no_grad()
def posterior(vae: Any, image: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, `b 4 h w`, VAE's scale, float32, on the CPU.

    Args:
        vae: An `AutoencoderKL`.
        image: `b 3 H W` in [0, 1].
        device: Where it computes.

    Raises:
        HostError: Even in float32 the result is not finite.
        CodecError: No memory suffices.
    """

    def encoded(row: Tensor, place: torch.device) -> tuple[Tensor, Tensor]:
        found = vae.encode(row.to(device=place, dtype=vae.dtype) * 2 - 1).latent_dist
        if not found.mean.isfinite().all():
            raise OverflowsError("The latent holds NaN or infinity.")
        return found.mean.float().cpu(), found.std.float().cpu()

    found = [_somehow(vae, encoded, row.unsqueeze(0), device, _SCALE, None) for row in image]
    means, stds = zip(*found, strict=True)
    return torch.cat(means), torch.cat(stds)


def to_vae_scale(vae: Any, latent: Tensor) -> Tensor:
    """Returns a sampler's latent `… 4 h w` on the VAE's own scale, float32."""
    mean, std = _statistics(vae, latent)
    return latent.float() * std / vae.config.scaling_factor + mean


def to_sampler_scale(vae: Any, latent: Tensor) -> Tensor:
    """Returns a VAE's latent `… 4 h w` on the sampler's scale, float32."""
    mean, std = _statistics(vae, latent)
    return (latent.float() - mean) / std * vae.config.scaling_factor


def _statistics(vae: Any, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the latents' mean and deviation where a VAE has such, else 0 and 1, `4 1 1`."""
    pairs = (("latents_mean", 0.0), ("latents_std", 1.0))
    values = (getattr(vae.config, name, None) or [plain] * 4 for name, plain in pairs)
    mean, std = (torch.tensor(v, device=latent.device).view(4, 1, 1) for v in values)
    return mean, std


@torch.no_grad()
def pixels(
    vae: Any, latents: Tensor, device: torch.device, on_retry: OnRetry | None = None
) -> Tensor:
    """Returns `b 3 H W` in [0, 1], float32, on the CPU; one row at a time to save memory.

    Where memory is full, the image is decoded in tiles, and in the end on the CPU.

    Args:
        vae: An `AutoencoderKL`; it stays in float32 once its own type was too small.
        latents: `b 4 h w`, sampler's scale.
        device: Where it computes.
        on_retry: Told what was changed where the first attempt failed, a sentence for the user.

    Raises:
        HostError: Even in float32 the result is not finite.
        CodecError: No memory suffices.
    """

    def decoded(row: Tensor, place: torch.device) -> Tensor:
        image: Tensor = vae.decode(row.to(device=place, dtype=vae.dtype)).sample
        if not image.isfinite().all():
            raise OverflowsError("The image holds NaN or infinity.")
        return (image.float().cpu() / 2 + 0.5).clamp(0, 1)

    rows = to_vae_scale(vae, latents)
    found = [_somehow(vae, decoded, row.unsqueeze(0), device, 1, on_retry) for row in rows]
    return torch.cat(found)


def _somehow(
    vae: Any,
    run: Callable[[Tensor, torch.device], Result],
    row: Tensor,
    device: torch.device,
    scale: int,
    on_retry: OnRetry | None,
) -> Result:
    """Returns what `run` makes of a row, whole, in float32 or in tiles, here or on the CPU.

    Args:
        vae: What `run` uses.
        run: Takes the row and where to compute.
        row: `1 c h w`, pixels or a latent.
        device: Where the VAE is.
        scale: How many of the row's cells an axis of the latent has for one of its own.
        on_retry: As in `pixels`.
    """

    def attempt(one: Attempt, place: torch.device) -> Result:
        if one.dtype is not None and vae.dtype is not one.dtype:
            vae.to(one.dtype)
        with _tiles(vae, one.tile):
            return run(row, place)

    def climbed(place: torch.device) -> Result:
        return climb(
            Attempt(),
            lambda one: attempt(one, place),
            network="VAE",
            longest=max(row.shape[2:]) * _SCALE // scale,
            computed_in=lambda: vae.dtype,
            on_retry=on_retry,
        )

    try:
        return climbed(device)
    except OverflowsError as error:
        raise HostError(
            "The VAE overflows: its result holds NaN or infinity, even in float32.",
            "Choose another type with --dtype, such as bfloat16 or float32, or another checkpoint.",
        ) from error
    except CodecError:
        # One that is offloaded is moved to the device at each call, so it cannot compute elsewhere.
        if device.type == "cpu" or hasattr(vae, "_hf_hook"):
            raise
    if on_retry is not None:
        on_retry("the memory of the device was full, so the VAE computed on the CPU.")
    vae.to("cpu")
    try:
        return climbed(torch.device("cpu"))
    finally:
        vae.to(device)


@contextmanager
def _tiles(vae: Any, side: int | None) -> Iterator[None]:
    """Has the VAE work in tiles of so many pixels; None leaves it as it is."""
    if side is None:
        yield
        return
    wanted = {
        "use_tiling": True,
        "tile_sample_min_size": side,
        "tile_latent_min_size": side // _SCALE,
    }
    before = {name: getattr(vae, name) for name in wanted}
    vars(vae).update(wanted)
    try:
        yield
    finally:
        vars(vae).update(before)

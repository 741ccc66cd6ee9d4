"""From settings to an injection, and from latents to images; knows no host.

A front end makes one `Session`, which keeps what is costly to load, and for each job calls
`inject` (when the size is known), `encode` (in img2img) and `decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .callbacks import OnShare
from .codec.attempts import Attempt, climb
from .codec.transparent import (
    OFFSET_STRENGTH,
    TransparentDecoder,
    TransparentEncoder,
    adjusted_latent,
    rgba_u8,
)
from .codec.views import Views
from .errors import ArchMismatchError, BatchSizeError
from .host import Host, Injection
from .imaging.images import FloatImage, as_rgba, composite, flatten, pad_colours
from .methods import DECODERS, ENCODERS, Arch, Layer, LayerMethod, PatchKind
from .outputs import given_layer
from .released import WeightFile
from .settings.chains import step_prompt
from .settings.layer_settings import LayerSettings
from .weights.patches import read_patches, read_sharing
from .weights.store import WeightStore

FileIdentity = tuple[str, int, int]
OnRetry = Callable[[str], None]
Codec = TypeVar("Codec", TransparentDecoder, TransparentEncoder)


class Session:
    """What outlives a job: one method's weights and each family's codec, by file."""

    def __init__(self, store: WeightStore) -> None:
        self.store = store
        self._weights: tuple[object, Injection] | None = None
        self._codecs: dict[WeightFile, tuple[object, Any]] = {}

    def weights(self, settings: LayerSettings) -> Injection:
        """Returns the injection of the method's weights at this strength, without images.

        Raises:
            WeightsError: The file is missing, corrupt or of another method.
        """
        method, strength = settings.method, settings.strength
        identity = self._identity(method.weights)
        key = (identity, method.id, strength)
        if self._weights is None or self._weights[0] != key:
            self._weights = None  # One method at a time: the files are up to 3.6 GB.
            tensors = self.store.load(method.weights)
            blank = Injection(method, settings.stop_at, f"layerdiffuse {identity}", strength)
            made = (
                replace(blank, patches=read_patches(tensors, method))
                if method.patch is PatchKind.WEIGHTS
                else replace(blank, sharing=read_sharing(tensors, method, strength))
            )
            self._weights = key, made
        return replace(self._weights[1], stop_at=settings.stop_at)

    def decoder(self, arch: Arch) -> TransparentDecoder:
        """Returns the family's transparent decoder.

        Raises:
            WeightsError: The file is missing or corrupt.
        """
        return self._codec(DECODERS[arch], TransparentDecoder)

    def encoder(self, arch: Arch) -> TransparentEncoder:
        """Returns the family's transparent encoder.

        Raises:
            WeightsError: The file is missing or corrupt.
        """
        return self._codec(ENCODERS[arch], TransparentEncoder)

    def _codec(self, file: WeightFile, kind: type[Codec]) -> Codec:
        identity = self._identity(file)
        if file not in self._codecs or self._codecs[file][0] != identity:
            self._codecs[file] = identity, kind.from_state_dict(self.store.load(file))
        made: Codec = self._codecs[file][1]
        return made

    def _identity(self, file: WeightFile) -> FileIdentity:
        path = self.store.ensure(file)
        stat = path.stat()
        return str(path), stat.st_size, stat.st_mtime_ns


def check_arch(method: LayerMethod, arch: Arch | None) -> None:
    """Checks that the loaded checkpoint is of the method's family.

    Raises:
        ArchMismatchError: It is not.
    """
    if arch is not method.arch:
        loaded = f"an {arch.value} one" if arch else "one of another family"
        raise ArchMismatchError(
            f"This method needs an {method.arch.value} checkpoint, but {loaded} is loaded.",
            f"Choose an {method.arch.value} checkpoint"
            + (f" or a method marked {arch.value}." if arch else "."),
            field="method",
        )


def whole_sets(method: LayerMethod, images: int) -> int:
    """Returns how many sets hold at least this many images."""
    return -(-images // method.frames)


def layer_prompts(
    settings: LayerSettings,
    prompts: Sequence[str],
    negative: bool,
    put: Callable[[str, str], str] = step_prompt,
) -> list[str]:
    """Returns each row's prompt: its layer's own, then the main one.

    Args:
        settings: The layers' own prompts.
        prompts: The batch's (negative) prompts by row.
        negative: Whether these are the negative ones.
        put: Returns a layer's own prompt and the main one as one.

    Raises:
        BatchSizeError: The rows are not whole sets.
    """
    method = settings.method
    if len(prompts) % method.frames:
        raise BatchSizeError(
            f"The batch has {len(prompts)} prompts, which make no whole sets of {method.frames} "
            "layers.",
            "Turn off extensions that change the batch size.",
        )
    if not (method.layer_prompts or settings.chain) or not settings.acts:
        return list(prompts)
    own = settings.negative_prompt if negative else settings.prompt
    rows = zip(prompts, method.outputs * (len(prompts) // method.frames), strict=True)
    return [put(own(layer), main) for main, layer in rows]


def conditioning_image(
    settings: LayerSettings, layer: Layer, width: int, height: int
) -> FloatImage:
    """Returns a conditioning image at the job's size, `H W 3`, flattened on 0.5 grey."""
    given = given_layer(settings, layer, width, height)
    assert given is not None, "`check_images` comes first"
    return flatten(given)


def image_tensor(image: FloatImage) -> Tensor:
    """Returns `1 c h w` of an image `h w c`; range and alpha kind stay."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)


def inject(
    settings: LayerSettings, session: Session, host: Host, width: int, height: int
) -> Injection:
    """Returns what the host must do for a sampling run of this size in pixels.

    Conditioning images are encoded in the order foreground, background, blended, since the
    host's VAE draws from the seeded generator.

    Raises:
        WeightsError: A file cannot be used.
        MissingLayerError: An image is missing.
    """
    settings.check_images()
    injection = session.weights(settings)
    images = [
        image_tensor(conditioning_image(settings, layer, width, height))
        for layer in settings.method.inputs
    ]
    if not images:
        return injection
    if settings.method.uses_control:
        return replace(injection, control=images[0] * 2 - 1)
    return replace(injection, concat=torch.cat([host.encode(p) for p in images], dim=1))


def first_image(settings: LayerSettings, layer: Layer, init: FloatImage) -> FloatImage:
    """Returns what a layer begins with in img2img, straight RGBA of the init image's size.

    That is the init image, laid over the given background where the layer blends with it.

    Args:
        settings: The method and its images.
        layer: One that the method makes.
        init: `H W 4`, straight RGBA.
    """
    if layer is not Layer.BLENDED or Layer.BG not in settings.method.inputs:
        return init
    height, width = init.shape[:2]
    return as_rgba(composite(init, conditioning_image(settings, Layer.BG, width, height)))


def encode(
    encoder: TransparentEncoder,
    host: Host,
    rgba: FloatImage,
    strength: float = OFFSET_STRENGTH,
    *,
    on_retry: OnRetry | None = None,
) -> Tensor:
    """Returns the sampler's latent `1 4 h w` of a transparent image.

    Args:
        encoder: The family's encoder.
        host: Where it runs.
        rgba: `H W 4`, straight; H and W multiples of 8.
        strength: Factor of the encoder's offset.
        on_retry: Told what was changed where the first attempt failed.

    Raises:
        CodecError: It overflows, or there is no memory for it.
    """
    mean, std = host.posterior(image_tensor(flatten(rgba)))
    padded = image_tensor(pad_colours(rgba))

    def run(attempt: Attempt) -> Tensor:
        host.place(encoder.net, encoder.held(attempt.pixels(*rgba.shape[:2])), attempt.dtype)
        return encoder.offset(padded, tile=attempt.tile).to(mean)

    offset = climb(
        Attempt(),
        run,
        network="transparent encoder",
        longest=max(rgba.shape[:2]),
        computed_in=lambda: _dtype_of(encoder),
        memory_errors=host.memory_errors(),
        on_retry=on_retry,
    )
    return host.sampler_latent(adjusted_latent(mean, std, offset, strength))


def decode(
    decoder: TransparentDecoder,
    host: Host,
    pixels: Tensor,
    vae_latent: Tensor,
    *,
    views: Views = 8,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    on_view: OnShare | None = None,
    on_retry: OnRetry | None = None,
) -> npt.NDArray[np.uint8]:
    """Returns one image's straight RGBA, `H W 4` uint8.

    Args:
        decoder: The family's decoder.
        host: Where it runs.
        pixels: `3 H W` in [0, 1], as the VAE decoded them.
        vae_latent: `4 H/8 W/8`, the VAE's scale.
        views: How many of the eight views to take, or "adaptive".
        dtype: The type to compute in; None for the host's choice.
        compiled: Whether to compile the network, where PyTorch can do that.
        on_view: Called after each view; returning False ends with those done so far.
        on_retry: Told what was changed where the first attempt or a compilation failed.

    Raises:
        CodecError: It overflows, or there is no memory for it.
    """
    batch = pixels.unsqueeze(0), vae_latent.unsqueeze(0)
    find = partial(decoder.decode, *batch, compiled=compiled, on_view=on_view, tell=on_retry)

    def run(attempt: Attempt) -> npt.NDArray[np.uint8]:
        whole = compiled and attempt.tile is None
        held = decoder.held(attempt.pixels(*pixels.shape[1:]), compiled=whole)
        free = host.place(decoder.net, held, attempt.dtype)
        rgba = find(views=attempt.views, tile=attempt.tile, eight_bit=True, free=free)
        return rgba_u8(rgba)[0]

    return climb(
        Attempt(dtype, views=views),
        run,
        network="transparent decoder",
        longest=max(pixels.shape[1:]),
        computed_in=lambda: _dtype_of(decoder),
        memory_errors=host.memory_errors(),
        on_retry=on_retry,
    )


def _dtype_of(codec: TransparentDecoder | TransparentEncoder) -> torch.dtype:
    return next(codec.net.parameters()).dtype

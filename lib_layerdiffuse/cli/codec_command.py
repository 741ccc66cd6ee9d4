"""`layerdiffuse decode` and `encode`: the transparent decoder and encoder on files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ChecksumError, LayerDiffuseError, SettingsError, first_line
from ..methods import DECODERS, ENCODERS, Arch
from ..released import WeightFile
from .lines import say_line
from .parsing import add_command, add_decoder, device, one_of, path

if TYPE_CHECKING:
    from torch import Tensor

    from ..codec.attempts import Attempt
    from ..codec.transparent import TransparentDecoder, TransparentEncoder
    from ..codec.views import Views
    from .parsing import Commands, Parser

_TENSORS = "FILE.safetensors"


def add_to(commands: Commands) -> None:
    """Adds both commands."""
    decode = add_command(commands, "decode", _decode, "find the transparency of a VAE's image")
    _add_file(decode, "--pixels", "RGB.png", "the image as the VAE decoded it")
    text = "its latent: a tensor `latent` of [4, h, w], on the VAE's scale"
    _add_file(decode, "--latent", _TENSORS, text)
    _add_file(decode, "--decoder", "FILE", _names(DECODERS))
    _add_file(decode, "--out", "RGBA.png", "the transparent image")
    add_decoder(decode)
    about = "find the latent offset that hides an image's transparency"
    encode = add_command(commands, "encode", _encode, about)
    _add_file(encode, "--image", "RGBA.png", "the transparent image")
    _add_file(encode, "--encoder", "FILE", _names(ENCODERS))
    _add_file(encode, "--out", _TENSORS, "receives the tensor `offset` of [4, h, w], float32")
    for command in (decode, encode):
        _add_place(command)


def _add_file(parser: Parser, option: str, metavar: str, help: str) -> None:
    parser.add_argument(option, type=path, required=True, metavar=metavar, help=help)


def _add_place(parser: Parser) -> None:
    parser.add_argument(
        "--dtype",
        **one_of("float32", "float16", "bfloat16"),
        default="float32",
        help="what to compute in (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        type=device,
        default="cpu",
        help="where, as PyTorch names it (default: %(default)s)",
    )


def _names(files: Mapping[Arch, WeightFile]) -> str:
    return " or ".join(f"{file.filename} ({arch.value})" for arch, file in files.items())


def _decode(args: argparse.Namespace) -> int:
    import torch

    from ..codec.transparent import TransparentDecoder, rgba_u8
    from ..files.whole_files import whole_file
    from ..imaging.png import png_bytes
    from ..imaging.reading import read_image
    from . import tensors as files

    _check_suffix(args.out, ".png")
    rgba = read_image(args.pixels)
    if not (rgba[..., 3] >= 1).all():
        raise SettingsError(
            f"{args.pixels} is transparent, but a VAE makes opaque images.",
            "Give the image as the VAE decoded it.",
        )
    pixels = torch.from_numpy(rgba[..., :3]).permute(2, 0, 1)[None]
    latent = files.read_latent(args.latent, "latent")[None]
    weights, dtype = files.read_tensors(args.decoder), getattr(torch, args.dtype)
    with whole_file(args.out) as out, _computing(args):
        with _loading(args.decoder, DECODERS):
            net = TransparentDecoder.from_state_dict(weights, dtype=dtype, device=args.device)
        find = partial(net.decode, pixels, latent, compiled=args.compiled, tell=say_line)
        found = _climbed(
            net,
            lambda one: find(views=one.views, tile=one.tile, eight_bit=True),
            "transparent decoder",
            max(pixels.shape[2:]),
            args.views,
        )
        (decoded,) = rgba_u8(found)
        out.write(png_bytes(decoded))
    print(f"Wrote {args.out}")
    return 0


def _encode(args: argparse.Namespace) -> int:
    import torch
    from safetensors.torch import save

    from ..codec.transparent import TransparentEncoder
    from ..files.whole_files import whole_file
    from ..imaging.images import pad_colours
    from ..imaging.reading import read_image
    from . import tensors as files

    _check_suffix(args.out, ".safetensors")
    padded = pad_colours(read_image(args.image))
    rgba = torch.from_numpy(padded).permute(2, 0, 1)[None]
    weights, dtype = files.read_tensors(args.encoder), getattr(torch, args.dtype)
    with whole_file(args.out) as out, _computing(args):
        with _loading(args.encoder, ENCODERS):
            net = TransparentEncoder.from_state_dict(weights, dtype=dtype, device=args.device)
        offset = _climbed(
            net,
            lambda one: net.offset(rgba, tile=one.tile),
            "transparent encoder",
            max(rgba.shape[2:]),
        )
        out.write(save({"offset": offset[0].cpu().contiguous()}))
    print(f"Wrote {args.out}")
    return 0


def _climbed(
    codec: TransparentDecoder | TransparentEncoder,
    run: Callable[[Attempt], Tensor],
    network: str,
    longest: int,
    views: Views = 1,
) -> Tensor:
    """Returns what the first attempt gives that has a result; says what was changed for it."""
    from ..codec.attempts import Attempt, climb

    def attempt(one: Attempt) -> Tensor:
        codec.net.to(dtype=one.dtype)  # None leaves it as it is.
        return run(one)

    told: list[str] = []
    found = climb(
        Attempt(views=views),
        attempt,
        network=network,
        longest=longest,
        computed_in=lambda: next(codec.net.parameters()).dtype,
        on_retry=told.append,
    )
    for text in told:
        say_line(text)
    return found


def _check_suffix(out: Path, suffix: str) -> None:
    if out.suffix.lower() != suffix:
        raise SettingsError(f"--out must end in {suffix}, but is {out}.", "Rename it.")


@contextmanager
def _loading(weights: Path, released: Mapping[Arch, WeightFile]) -> Iterator[None]:
    """Names the file where it does not hold the network."""
    try:
        yield
    except ChecksumError as error:
        raise ChecksumError(f"{weights}: {error.message}", f"Use {_names(released)}.") from error


@contextmanager
def _computing(args: argparse.Namespace) -> Iterator[None]:
    """Tells what PyTorch cannot do: no such device, no such type there, too little memory."""
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError) as error:
        raise LayerDiffuseError(
            f"Computing in {args.dtype} on {args.device} failed: {first_line(error)}.",
            "Try --device cpu --dtype float32, or a smaller image.",
        ) from error

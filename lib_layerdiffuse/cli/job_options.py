"""The options of the commands that make images."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..methods import Layer
from ..standalone.bounds import CFG, SETS, STEPS
from .parsing import add_decoder, device, one_of, path
from .stores import add_store_options

if TYPE_CHECKING:
    from ..documents.kinds import DocumentKind
    from ..quality.decoder_settings import DecoderSetting
    from .parsing import Parser

RESIZE_MODES = {"crop": "Crop and Resize", "stretch": "Just Resize", "fill": "Resize and Fill"}


def add_prompts(parser: Parser, layers: Iterable[Layer]) -> None:
    """Adds the prompts, and these layers' own."""
    group = parser.add_argument_group("prompts")
    group.add_argument("--prompt", default="", metavar="TEXT", help="what to draw")
    group.add_argument("--negative-prompt", default="", metavar="TEXT", help="what to avoid")
    for layer in layers:
        name = layer.value
        group.add_argument(
            f"--{name}-prompt",
            default="",
            metavar="TEXT",
            help=f"put before the prompt, for the {layer.label.lower()} layer only",
        )
        group.add_argument(f"--{name}-negative-prompt", default="", metavar="TEXT", help="likewise")


def add_image(parser: Parser, layer: Layer, *, required: bool = False) -> None:
    """Adds the option for a conditioning image."""
    parser.add_argument(
        f"--{layer.value}",
        type=path,
        required=required,
        metavar="PICTURE",
        help=f"the {layer.label.lower()} image to start from"
        + (", with its transparency" if layer is Layer.FG else ""),
    )


def add_sampling(parser: Parser) -> None:
    """Adds size, seed, steps and the like; what is not given is the author's choice."""
    group = parser.add_argument_group("sampling")
    add = group.add_argument
    add(
        "--size",
        type=size,
        metavar="WxH",
        help="in multiples of 8 (default: 512x512 for SD1.5, 1024x1024 for SDXL, what it was "
        "trained at for the tiny family)",
    )
    add("--sets", type=number(int, *SETS), default=1, metavar="N", help="how many (default: 1)")
    add(
        "--seed",
        type=_seed,
        default=-1,
        metavar="N",
        help="the same one gives the same image (default: -1, a new one each time)",
    )
    add("--steps", type=number(int, *STEPS), metavar="N", help="(default: 20)")
    add(
        "--cfg",
        type=number(float, *CFG),
        metavar="SCALE",
        help="guidance (default: 7; 3 for the tiny family)",
    )
    add(
        "--sampler",
        type=sampler,
        metavar="NAME",
        help="as the WebUI calls it (default: the author's choice)",
    )
    add_decoder(group)
    add("--weight", type=setting("strength"), default=1.0, metavar="W", help="0 to 2 (default: 1)")
    add(
        "--stop-at",
        type=setting("stop_at"),
        metavar="PART",
        help="the method acts in this first part of the steps, 0 to 1 (default: 1; 0.5 for "
        "fg_blended_to_bg_sdxl)",
    )
    add(
        "--resize-mode",
        **one_of(*RESIZE_MODES),
        default="crop",
        help="how given images get the size (default: %(default)s)",
    )


def add_models(parser: Parser) -> None:
    """Adds checkpoint, LoRAs, where to compute, and where the weight files are."""
    group = parser.add_argument_group("models")
    add = group.add_argument
    add(
        "--checkpoint",
        type=path,
        metavar="PATH",
        help="an SD1.5 or SDXL checkpoint: a .safetensors file or a diffusers folder (default: "
        "the tiny family of this package, which draws simple things)",
    )
    add(
        "--lora",
        type=_lora,
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a LoRA of yours for the checkpoint; may be repeated",
    )
    add(
        "--prediction",
        **one_of("eps", "v"),
        help="what the checkpoint's UNet predicts: noise or velocity (default: what the checkpoint "
        "says)",
    )
    add("--dtype", **one_of("float32", "float16", "bfloat16"), help="(default: the device's best)")
    add(
        "--device",
        type=device,
        metavar="NAME",
        help="cpu, cuda, mps … (default: the best there is)",
    )
    add(
        "--offload",
        **one_of("none", "model", "sequential"),
        default="none",
        help="keep in ordinary memory what is not at work: saves the device's memory, and takes "
        "longer (default: %(default)s)",
    )
    add_store_options(group)


def add_output(parser: Parser, default: Path) -> None:
    """Adds where the images go and what is told."""
    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--out", type=path, default=default, metavar="DIR", help="(default: %(default)s)")
    add("--preview", action="store_true", help="also the foreground over a checkerboard")
    add("--matte", action="store_true", help="also the foreground's alpha as a grey image")
    add(
        "--composite",
        action="store_true",
        help="also the set's foreground over its background, where both were made or given",
    )
    add("--raw", action="store_true", help="also the foreground as it was before decoding")
    add(
        "--layers",
        type=_kinds,
        default=(),
        metavar="KINDS",
        help="also each set's layers in one file: psd, ora, zip, or several with commas",
    )
    add("--trim", action="store_true", help="cut the layers in these files to what is visible")
    add("--json", action="store_true", help="one line of JSON for each file, no progress bars")
    add("--quiet", action="store_true", help="no progress bars and no notes")


def number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    """Returns a type for argparse: a number in a range."""

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(low - 1)
        if not low <= value <= high:
            what = "a whole number" if kind is int else "a number"
            said = f"must be {what} between {low} and {high}, but is {text!r}"
            raise argparse.ArgumentTypeError(said)
        return value

    return read


def setting(name: str) -> Callable[[str], Any]:
    """Returns a type for argparse: what `LayerSettings` takes for one of its fields."""

    def read(text: str) -> Any:
        from ..settings.layer_settings import read_setting

        return read_setting(name, text)

    return _typed(read)


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Returns a type for argparse that says what a reader says."""

    def typed(text: str) -> Any:
        try:
            return read(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error

    return typed


@_typed
def sampler(text: str) -> str:
    """Returns a sampler's name as the WebUI writes it; for argparse's `type`."""
    from ..hosts.diffusers.sampling import sampler_name

    return sampler_name(text)


@_typed
def size(text: str) -> tuple[int, int]:
    """Returns a width and a height; for argparse's `type`."""
    from ..standalone.defaults import read_size

    return read_size(text)


@_typed
def decoder_setting(text: str) -> DecoderSetting:
    """Returns a way to run the decoder; for argparse's `type`."""
    from ..quality.decoder_settings import read_decoder_setting

    return read_decoder_setting(text)


@_typed
def _seed(text: str) -> int:
    from ..standalone.defaults import read_seed

    return read_seed(text)


@_typed
def _kinds(text: str) -> tuple[DocumentKind, ...]:
    from ..documents.kinds import find_kinds

    return find_kinds(text.split(","))


@_typed
def _lora(text: str) -> tuple[Path, float]:
    from ..standalone.models import read_lora

    name, weight = read_lora(text)
    return path(name), weight

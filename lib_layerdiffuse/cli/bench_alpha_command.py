"""`layerdiffuse bench-alpha`: how well a codec keeps transparency, in the field's figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..methods import METHODS, Arch
from . import job_options as options
from .described import models_of, refuse_folders_of_tiny
from .parsing import add_command, device, one_of, path
from .progress_bars import Bars, bars_of
from .stores import add_store_options

if TYPE_CHECKING:
    from ..quality.bench import Outcome
    from ..quality.pictures import Picture
    from ..quality.report import Subject
    from .parsing import Commands

DRAWN = 60
"""How many images are drawn where no folder is named."""

_NAME = "bench-alpha"
_FAMILIES = {arch.name.lower(): arch for arch in Arch}


def add_to(commands: Commands) -> None:
    """Adds the command."""
    about = "measure how well a codec keeps transparency"
    parser = add_command(commands, _NAME, _run, about)
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        type=path,
        metavar="FOLDER",
        help=f"of transparent images (default: {DRAWN} that the program draws)",
    )
    add("--drawn", type=options.number(int, 1, 10000), metavar="N", help="draw so many images")
    add("--size", type=options.size, metavar="WxH", help="of the images (default: as for generate)")
    add(
        "--setting",
        type=options.decoder_setting,
        action="append",
        default=[],
        metavar="SETTING",
        help="another way to run the decoder, compared with 8 views in float32 of the whole image: "
        "views=N or adaptive, dtype=NAME, tile=PIXELS or several with commas; may be repeated",
    )
    add(
        "--strength",
        type=options.number(float, 0, 1000),
        metavar="S",
        help="factor of the encoder's offset (default: 300)",
    )
    models = parser.add_argument_group("models")
    add = models.add_argument
    add(
        "--checkpoint",
        type=path,
        metavar="PATH",
        help="whose VAE and family to take: a .safetensors file or a diffusers folder (default: "
        "the tiny family of this package)",
    )
    add("--family", **one_of(*_FAMILIES), help="the tiny family's (default: sd15)")
    add("--device", type=device, metavar="NAME", help="(default: the best there is)")
    add_store_options(models)
    add = parser.add_argument_group("output").add_argument
    add("--out", type=path, metavar="DIR", help=f"also write {_NAME}.md and {_NAME}.json there")
    add("--json", action="store_true", help="print JSON instead of Markdown, no progress bars")
    add("--quiet", action="store_true", help="no progress bars and no notes")


def _run(args: argparse.Namespace) -> int:
    from ..files.whole_files import check_folder
    from ..quality.report import as_json, as_markdown

    if args.checkpoint is not None and args.family is not None:
        raise SettingsError(
            "--family is for the tiny family, but --checkpoint names another one.",
            "Leave one of them out.",
        )
    refuse_folders_of_tiny(args)
    if args.out is not None:
        check_folder(args.out)
    with bars_of(args) as bars:
        subject, outcomes, kinds = _measured(args, bars)
    found = json.dumps(as_json(subject, outcomes, kinds), ensure_ascii=False, allow_nan=False)
    table = as_markdown(subject, outcomes)
    if args.out is not None:
        _write(args, table, found)
    print(found if args.json else table, end="\n" if args.json else "")
    return 0


def _measured(
    args: argparse.Namespace, bars: Bars
) -> tuple[Subject, list[Outcome], dict[str, str]]:
    """Returns what was measured, what came of it, and the images' kinds."""
    from ..codec.transparent import OFFSET_STRENGTH
    from ..quality.bench import Bench
    from ..quality.decoder_settings import DecoderSetting
    from ..quality.report import Subject
    from ..standalone.models import ModelChoice

    pictures, source = _pictures(args)
    choice = ModelChoice(args.checkpoint, device=args.device)
    family = _FAMILIES[args.family or "sd15"]
    host, session = models_of(args, bars.download).open(choice, family)
    arch = host.arch() or family
    size = args.size or _usual_size(arch, tiny=choice.tiny)
    strength = OFFSET_STRENGTH if args.strength is None else args.strength
    kinds: dict[str, str] = {}

    def noted(picture: Picture) -> Picture:
        kinds[picture.name] = picture.kind
        return picture

    outcomes = Bench(host, session, arch, strength).run(
        (noted(make(*size)) for make in pictures),
        list(dict.fromkeys([DecoderSetting(), *args.setting])),
        lambda done: bars.stage("Images", done, len(pictures)),
    )
    about = Subject(host.name, arch.value, strength, len(pictures), source, size)
    return about, outcomes, kinds


def _pictures(args: argparse.Namespace) -> tuple[list[Callable[[int, int], Picture]], str]:
    """Returns what makes each image at a size, and where they come from."""
    from ..quality.pictures import drawn, in_folder, opened

    count = args.drawn or (0 if args.folder else DRAWN)
    made: list[Callable[[int, int], Picture]] = [partial(drawn, number) for number in range(count)]
    if args.folder is None:
        return made, "drawn"
    files = in_folder(args.folder)
    source = f"of {args.folder.resolve().name}" + (f" and {count} drawn" if count else "")
    return [partial(opened, file) for file in files] + made, source


def _usual_size(arch: Arch, *, tiny: bool) -> tuple[int, int]:
    from ..standalone.defaults import defaults

    side = defaults(next(one for one in METHODS if one.arch is arch), tiny=tiny).side
    return side, side


def _write(args: argparse.Namespace, table: str, found: str) -> None:
    from ..files.whole_files import whole_file

    for suffix, text in (("md", table), ("json", found)):
        with whole_file(args.out / f"{_NAME}.{suffix}") as out:
            out.write(text.encode())

"""`layerdiffuse generate`: one method, without a WebUI."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..methods import Layer, find_method
from ..standalone.bounds import DENOISE
from . import job_options as options
from .described import (
    check_trim,
    choice_of,
    generation_of,
    models_of,
    refuse_folders_of_tiny,
    refuse_unused,
)
from .parsing import add_command, path
from .progress_bars import Bars, bars_of

if TYPE_CHECKING:
    from ..documents.kinds import DocumentKind
    from ..standalone.output import OutputFolder
    from ..standalone.saved import SavedDocument, SavedImage
    from ..standalone.undrawn import UndrawnError
    from .parsing import Commands

TINY_NOTE = (
    "no --checkpoint is given, so the tiny family of this package draws, with its own layer files."
)


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(commands, "generate", _run, "make layers without a WebUI")
    parser.add_argument(
        "--method", required=True, metavar="ID", help="see `layerdiffuse methods` for all ten"
    )
    for layer in Layer:
        options.add_image(parser, layer)
    parser.add_argument(
        "--init", type=path, metavar="PICTURE", help="draw over this image, with its transparency"
    )
    parser.add_argument(
        "--denoise",
        type=options.number(float, *DENOISE),
        metavar="PART",
        help="how much --init changes, 0 to 1 (default: 0.75)",
    )
    options.add_prompts(parser, Layer)
    options.add_sampling(parser)
    options.add_models(parser)
    options.add_output(parser, Path("out"))


def _run(args: argparse.Namespace) -> int:
    from ..standalone.generation import check_job
    from ..standalone.output import OutputFolder
    from ..standalone.run import run
    from ..standalone.undrawn import UndrawnError

    method = find_method(args.method)
    refuse_unused(args, method)
    check_trim(args)
    refuse_folders_of_tiny(args)
    if args.denoise is not None and args.init is None:
        raise SettingsError("--denoise needs --init.", "Give the image to draw over.")
    folder = OutputFolder(args.out)
    job = generation_of(args, method)
    check_job(job)
    with bars_of(args) as bars:
        tell_of_tiny(args, bars)
        models = models_of(args, bars.download)
        host, session = models.open(choice_of(args), method.arch)
        try:
            made = run(job, session, host, on_progress=bars.stage)
        except UndrawnError as error:
            raise kept(args, error, folder, bars) from error
        saved = folder.save(made, job.settings)
        documents = folder.save_documents(saved, job.settings, args.layers, trim=args.trim)
        tell_of_images(saved, bars, args.layers)
    tell(args, [*saved, *documents])
    end_if_interrupted(saved)
    return 0


def tell_of_tiny(args: argparse.Namespace, bars: Bars) -> None:
    """Says that the tiny family draws, where it does and notes are wanted."""
    if args.checkpoint is None and not args.quiet:
        bars.note(TINY_NOTE)


def tell_of_images(
    saved: Sequence[SavedImage], bars: Bars, kinds: Iterable[DocumentKind] = ()
) -> None:
    """Says what the user should know of the images, once, and which documents are left out."""
    from ..standalone.saved import left_out

    notes = [one.image.note for one in saved if one.image.note]
    for note in dict.fromkeys([*notes, *left_out(saved, kinds)]):
        bars.note(note)


def kept(
    args: argparse.Namespace,
    error: UndrawnError,
    folder: OutputFolder,
    bars: Bars,
    number: int | None = None,
) -> BaseException:
    """Returns what to raise for a job that ended early, once all that it has sampled is saved."""
    from ..standalone.undrawn import save_undrawn

    tell(args, save_undrawn(error, folder, number))
    if not error.interrupted:
        return error
    bars.note(str(error))
    return KeyboardInterrupt()


def end_if_interrupted(saved: Iterable[SavedImage]) -> None:
    """Ends the command as interrupted where the user ended the job, once all is saved.

    Raises:
        KeyboardInterrupt: The user did.
    """
    if any(one.image.interrupted for one in saved):
        raise KeyboardInterrupt


def tell(args: argparse.Namespace, saved: Iterable[SavedImage | SavedDocument]) -> None:
    """Prints what was written, as lines of JSON if these are wanted."""
    for one in saved:
        print(json.dumps(one.as_dict()) if args.json else one.path, flush=True)

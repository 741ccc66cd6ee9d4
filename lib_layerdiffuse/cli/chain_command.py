"""`layerdiffuse chain`: the two SDXL steps that split an image into layers, in one go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..methods import Layer
from . import job_options as options
from .described import check_trim, choice_of, generation_of, models_of, refuse_folders_of_tiny
from .generate_command import end_if_interrupted, kept, tell, tell_of_images, tell_of_tiny
from .parsing import add_command
from .progress_bars import bars_of

if TYPE_CHECKING:
    from ..standalone.saved import SavedImage
    from .parsing import Commands

_ABOUTS = {
    "bg-to-fg": "put something on a background, then take it off again, transparent",
    "fg-to-bg": "put a foreground into a scene, then take the scene alone",
}


def add_to(commands: Commands) -> None:
    """Adds the command and its two directions."""
    about = "run the two SDXL steps in one go"
    parser = commands.add_parser("chain", help=about, description=f"{about.capitalize()}.")
    directions = parser.add_subparsers(metavar="DIRECTION", required=True)
    for name, text in _ABOUTS.items():
        direction = add_command(directions, name, _run, text)
        direction.set_defaults(direction=name)
        given, _, wanted = name.partition("-to-")
        options.add_image(direction, Layer(given), required=True)
        options.add_prompts(direction, (Layer.BLENDED, Layer(wanted)))
        options.add_sampling(direction)
        direction.add_argument(
            "--second-sampler",
            type=options.sampler,
            metavar="NAME",
            help="of the second step (default: the author's)",
        )
        direction.add_argument(
            "--second-stop-at",
            type=options.setting("stop_at"),
            metavar="PART",
            help="of the second step (default: the author's)",
        )
        options.add_models(direction)
        options.add_output(direction, Path("out"))


def _run(args: argparse.Namespace) -> int:
    from ..standalone.output import OutputFolder
    from ..standalone.saved import number_of
    from ..standalone.two_steps import Direction, SecondStep, check_steps, run_chain
    from ..standalone.undrawn import UndrawnError

    check_trim(args)
    refuse_folders_of_tiny(args)
    method = Direction(args.direction).methods[0]
    folder = OutputFolder(args.out)
    job = generation_of(args, method)
    second = SecondStep(args.second_sampler, args.second_stop_at)
    check_steps(job, second)
    with bars_of(args) as bars:
        tell_of_tiny(args, bars)
        models = models_of(args, bars.download)
        host, session = models.open(choice_of(args), method.arch)
        number: int | None = None  # Taken with the first files: others may save meanwhile.
        all_saved: list[SavedImage] = []
        try:
            for step in run_chain(job, session, host, second=second, on_progress=bars.stage):
                saved = folder.save(step.images, step.settings, number)
                number = number_of(saved[0])
                bars.close()
                tell_of_images(saved, bars, args.layers)
                tell(args, saved)
                all_saved += saved
        except UndrawnError as error:
            raise kept(args, error, folder, bars, number) from error
        tell(args, folder.save_documents(all_saved, step.settings, args.layers, trim=args.trim))
    end_if_interrupted(all_saved)
    return 0

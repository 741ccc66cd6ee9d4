"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import SettingsError, shortened

if TYPE_CHECKING:
    from ..codec.views import Views

    Commands = argparse._SubParsersAction["Parser"]
    Options = argparse._ActionsContainer  # a parser, or a group of its options

Run = Callable[[argparse.Namespace], int]
"""Does a command's work and returns the exit status."""


class Parser(argparse.ArgumentParser):
    """Raises a SettingsError for arguments that it does not understand."""

    def error(self, message: str) -> NoReturn:
        """Raises the error instead of printing the usage."""
        raise SettingsError(f"{message.rstrip('.')}.", f"See `{self.prog} --help`.")


def add_command(commands: Commands, name: str, run: Run, about: str) -> Parser:
    """Adds the command `name` that calls `run`, and returns its parser."""
    text = f"{about[0].upper()}{about[1:]}."
    parser = commands.add_parser(name, help=about, description=text)
    parser.set_defaults(run=run)
    return parser


def one_of(*names: str) -> dict[str, Any]:
    """Returns what argparse is told of an option with names to choose from, of either case."""
    return {"type": str.lower, "choices": names}


def add_decoder(parser: Options) -> None:
    """Adds how the transparent decoder computes, to a parser or a group of one."""
    parser.add_argument(
        "--views",
        type=_views,
        default=8,
        metavar="N",
        help="views of the transparent decoder: 1 to 8 (default: 8, which is best; fewer are "
        "faster), or adaptive: 2, and 2 more while they would change the result",
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="let PyTorch compile the transparent decoder for the image's size, where it can: for "
        "many images of one size on a GPU, since on a CPU it is no faster",
    )


def _views(text: str) -> Views:
    """Returns a number of views, or that they are adaptive; for argparse's `type`."""
    from ..codec.views import read_views

    try:
        return read_views(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device(text: str) -> str:
    """Returns the name of a device that PyTorch can use here; for argparse's `type`."""
    import torch

    try:
        torch.zeros(1, device=text).cpu()
    except Exception as error:  # Each device's library has exceptions of its own.
        there = ["cpu", *(name for name in ("cuda", "mps", "xpu") if _is_available(name))]
        raise argparse.ArgumentTypeError(
            f"there is no device called {shortened(text)} here. Choose one of: {', '.join(there)}"
        ) from error
    return text


def _is_available(name: str) -> bool:
    import torch

    library = getattr(torch, name, None) or getattr(torch.backends, name, None)
    return bool(library and library.is_available())


def check_texts(args: argparse.Namespace) -> None:
    """Checks that the options' texts are texts; the names of files may be any bytes.

    Raises:
        SettingsError: One holds bytes that are none in the console's encoding.
    """
    for name, value in vars(args).items():
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise SettingsError(
                f"--{name.replace('_', '-')} holds bytes that are no UTF-8.",
                "Write it again, or save the file that it comes from as UTF-8.",
            )


def path(text: str) -> Path:
    """Returns a path, `~` resolved; for argparse's `type`."""
    return Path(os.path.expanduser(text))

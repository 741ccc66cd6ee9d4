"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..errors import SettingsError

if TYPE_CHECKING:
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


def path(text: str) -> Path:
    """Returns a path, `~` resolved; for argparse's `type`."""
    return Path(os.path.expanduser(text))

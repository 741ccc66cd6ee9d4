"""A job's settings, from the script's arguments and the plot's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...settings.layer_settings import LayerSettings
from .given_images import read_given


def read_settings(args: Sequence[Any], axes: Mapping[str, Any] | None = None) -> LayerSettings:
    """Returns the settings of a job.

    Args:
        args: The script's arguments: values in order, a dict by name among them, or both.
        axes: What the axes of a plot set, by field; they win, and switch the job on.

    Raises:
        SettingsError: Something in them cannot be used.
    """
    return LayerSettings.from_args(args, read_given, strict=True, over=axes)


def selected_script(p: Any) -> str | None:
    """Returns the title of the selectable script that runs the job, or None without one."""
    number = p.script_args[0] if p.script_args else 0
    selectable = getattr(p.scripts, "selectable_scripts", ())
    if not isinstance(number, int) or not 0 < number <= len(selectable):
        return None
    return str(selectable[number - 1].title())


def is_called(title: str | None, *names: str) -> bool:
    """Whether a script's title is one of these; WebUIs differ in the case of its letters."""
    return title is not None and title.casefold() in {name.casefold() for name in names}

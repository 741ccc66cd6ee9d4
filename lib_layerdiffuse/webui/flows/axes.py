"""LayerDiffuse's axes of the X/Y/Z plot.

The plot makes each cell from a copy of the processing object. An axis leaves its value on that
copy, where the script's `before_process` finds it, so no other job meets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import scripts

from ...errors import HostError, LayerDiffuseError
from ...imaging.images import ResizeMode
from ...methods import METHODS, find_method
from ...settings.chains import check_chain
from ..job.abort import as_raised
from ..job.arguments import read_settings
from ..job.comments import without_comments
from ..job.layer_prompts import check_layer_prompts
from ..job.state import find, put

_ATTRIBUTE = "layerdiffuse_axes"
_PLOT = "xyz_grid.py"
_PREFIX = "[LayerDiffuse]"
_AXES: dict[str, tuple[str, type]] = {
    "method": ("Method", str),
    "strength": ("Weight", float),
    "stop_at": ("Stop at", float),
    "resize_mode": ("Resize mode", str),
    "fg_prompt": ("Foreground prompt", str),
    "bg_prompt": ("Background prompt", str),
    "blended_prompt": ("Blended prompt", str),
}
_CHOICES = {
    "method": [method.label for method in METHODS],
    "resize_mode": [mode.value for mode in ResizeMode],
}


def axis_values(p: Any) -> Mapping[str, Any]:
    """Returns what axes have set on this very processing object, by field of the settings."""
    values: Mapping[str, Any] | None = find(p, _ATTRIBUTE)
    return values or {}


def register(script_class: type) -> None:
    """Adds the axes to every X/Y/Z plot that is loaded and lacks them.

    Args:
        script_class: Our script's, whose arguments the axes override.
    """
    for data in scripts.scripts_data:
        plot: Any = getattr(data, "module", None)
        if Path(data.path).name == _PLOT and hasattr(plot, "axis_options"):
            known = {axis.label for axis in plot.axis_options}
            made = (_axis(plot, script_class, name) for name in _AXES)
            plot.axis_options.extend(axis for axis in made if axis.label not in known)


def _axis(plot: Any, script_class: type, name: str) -> Any:
    title, kind = _AXES[name]

    def apply(p: Any, value: Any, values: Any) -> None:
        put(p, _ATTRIBUTE, {**axis_values(p), name: value})

    def label(p: Any, axis: Any, value: Any) -> str:
        if name == "method":
            return find_method(value).label
        return f"{title}: {value:g}" if kind is float else f"{title}: {value}"

    def confirm(p: Any, values: list[Any]) -> None:
        try:
            _check(p, script_class, name, values)
        except LayerDiffuseError as error:
            raise as_raised(p, error) from error

    listed = _CHOICES.get(name)
    choices = (lambda: listed) if listed else None
    return plot.AxisOption(
        f"{_PREFIX} {title}", kind, apply, format_value=label, confirm=confirm, choices=choices
    )


def _check(p: Any, script_class: type, name: str, values: list[Any]) -> None:
    """Checks an axis before the plot starts, since the plot hides what goes wrong in a cell.

    Raises:
        SettingsError: There is no such value, a method's image is missing, or a method begins no
            chain, though one is asked for.
        HostError: Our script is not among those that run.
    """
    args = _arguments(p, script_class)
    for value in values:
        settings = read_settings(args, {name: value})
        if name == "method":
            check_chain(settings)
            settings.check_images()
        check_layer_prompts(without_comments(p, settings))


def _arguments(p: Any, script_class: type) -> list[Any]:
    ours: list[Any] = [s for s in p.scripts.alwayson_scripts if isinstance(s, script_class)]
    for script in ours:
        if not script.off:
            return list(p.script_args[script.args_from : script.args_to])
    raise HostError(
        "LayerDiffuse is off, so the plot cannot use its axes.",
        "Look at LayerDiffuse's panel, which says why it is off.",
    )

"""The X/Y/Z plot: a selectable script that runs a job for each combination of its axes' values.

As in the WebUI a cell is a shallow copy of the processing object, all axes are confirmed first,
and what goes wrong in a cell is noted and makes an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from modules import scripts
from modules.processing import Processed, process_images


def format_value_add_label(p: Any, opt: AxisOption, x: Any) -> str:
    return f"{opt.label}: {x}"


class AxisOption:
    def __init__(
        self,
        label: str,
        type: Callable[[Any], Any],
        apply: Callable[[Any, Any, Any], None],
        format_value: Callable[[Any, Any, Any], Any] = format_value_add_label,
        confirm: Callable[[Any, Any], None] | None = None,
        cost: float = 0.0,
        choices: Callable[[], list[str]] | None = None,
        prepare: Callable[[str], list[str]] | None = None,
    ) -> None:
        self.label, self.type, self.apply, self.format_value = label, type, apply, format_value
        self.confirm, self.cost, self.choices, self.prepare = confirm, cost, choices, prepare


def apply_seed(p: Any, x: Any, xs: Any) -> None:
    p.seed = x


axis_options = [AxisOption("Seed", int, apply_seed)]


class Script(scripts.Script):
    selectable = True
    reports: list[Exception]

    def title(self) -> str:
        return "X/Y/Z plot"

    def ui(self, is_img2img: bool) -> list[Any]:
        self.current_axis_options = [x for x in axis_options if type(x) is AxisOption]
        return [None] * 4

    def run(
        self, p: Any, x_label: str, x_values: Sequence[str], y_label: str, y_values: Sequence[str]
    ) -> Processed:
        """Returns the first image of each cell, row by row, and the labels as `labels`."""
        by_label = {option.label: option for option in self.current_axis_options}
        axes = []
        for label, texts in ((x_label, x_values), (y_label, y_values)):
            option = by_label[label]
            values = [option.type(text) for text in texts]
            if option.confirm:
                option.confirm(p, values)
            axes.append((option, values))
        (x_option, xs), (y_option, ys) = axes
        self.reports, self.cells = [], []
        result: Processed | None = None
        for y in ys:
            for x in xs:
                pc = copy(p)
                x_option.apply(pc, x, xs)
                y_option.apply(pc, y, ys)
                try:
                    made = process_images(pc)
                except Exception as error:
                    self.reports.append(error)
                    made = Processed([], [], [], [], {})
                self.cells.append(made)
                if result is None:
                    result = copy(made)
                    result.images, result.infotexts = [], []
                result.images.append(made.images[0] if made.images else None)
                result.infotexts.append(made.infotexts[0] if made.infotexts else "")
        assert result is not None
        self.labels = [[o.format_value(p, o, value) for value in values] for o, values in axes]
        return result

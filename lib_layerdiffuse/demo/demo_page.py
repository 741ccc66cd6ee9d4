"""The demo's page: its images with their captions, in one HTML file beside them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..errors import SettingsError
from ..methods import find_method
from ..standalone.html_page import html_figure, html_page, html_section
from ..standalone.two_steps import Direction
from .exhibits import Part

_LEAD = """<p>Drawn by the tiny family of models in this package. The squares are not in the
images: they are PNG files with an alpha channel, laid over a checkerboard by this page. The whole
as one image: <a href="sheet.png">sheet.png</a>.</p>"""


def write_page(path: Path, parts: Sequence[Part]) -> None:
    """Writes the page; the images are expected in its folder.

    Raises:
        SettingsError: It cannot be written.
    """
    heading = "Layers with real transparency"
    title = "LayerDiffuse: layers with real transparency"
    page = html_page(title, heading, _LEAD, (_section(part) for part in parts))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{path} could not be written: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with space.",
        ) from error


def _section(part: Part) -> str:
    figures = (html_figure(one.path.name, one.caption) for one in part.exhibits)
    return html_section(part.plan.title, _how(part.plan.method), figures)


def _how(method_id: str) -> str:
    """Returns which methods made a part, as HTML."""
    for direction in Direction:
        first, second = direction.methods
        if first.id == method_id:
            ids = f"<code>{first.id}</code>, then <code>{second.id}</code>"
            return f"<code>chain {direction.value}</code>: {ids}"
    return f"<code>{method_id}</code>, {escape(find_method(method_id).label)}"

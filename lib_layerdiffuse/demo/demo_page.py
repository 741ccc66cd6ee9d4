"""The demo's page: its images with their captions, in one HTML file beside them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..errors import SettingsError
from ..methods import find_method
from ..standalone.two_steps import Direction
from .exhibits import Exhibit, Part

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>LayerDiffuse: layers with real transparency</title>
<style>
:root {{ color-scheme: light dark; --paper: #fafafa; --ink: #1c1c1e; --pale: #5c5c62;
  --line: #d8d8dc; --board-a: #c7c7c7; --board-b: #ebebeb; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #161618; --ink: #ececee; --pale: #a2a2a8;
  --line: #38383c; --board-a: #8b8b8b; --board-b: #b4b4b4; }} }}
body {{ margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .5rem; }}
h2 {{ font-size: 1.15rem; margin: 0; }}
p {{ margin: .25rem 0; color: var(--pale); max-width: 46rem; }}
section {{ border-top: 1px solid var(--line); margin-top: 1.75rem; padding-top: 1.25rem; }}
code {{ font-size: .9em; }}
.layers {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .9rem; }}
figure {{ margin: 0; width: 16rem; }}
figure img {{ display: block; width: 16rem; height: 16rem; object-fit: contain; border-radius: 4px;
  background: repeating-conic-gradient(var(--board-a) 0 25%, var(--board-b) 0 50%) 0 0 / 2rem 2rem;
}}
figcaption {{ margin-top: .35rem; font-size: .9rem; color: var(--pale); }}
</style>
</head>
<body>
<h1>Layers with real transparency</h1>
<p>Drawn by the tiny family of models in this package. The squares are not in the images: they
are PNG files with an alpha channel, laid over a checkerboard by this page. The whole as one
image: <a href="sheet.png">sheet.png</a>.</p>
{sections}
</body>
</html>
"""
_SECTION = """<section>
<h2>{title}</h2>
<p>{how}</p>
<div class="layers">
{figures}
</div>
</section>"""
_FIGURE = """<figure><a href="{link}"><img src="{link}" alt="{caption}"></a>
<figcaption>{caption}</figcaption></figure>"""


def write_page(path: Path, parts: Sequence[Part]) -> None:
    """Writes the page; the images are expected in its folder.

    Raises:
        SettingsError: It cannot be written.
    """
    page = _PAGE.format(sections="\n".join(_section(part) for part in parts))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{path} could not be written: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with space.",
        ) from error


def _section(part: Part) -> str:
    return _SECTION.format(
        title=escape(part.plan.title),
        how=_how(part.plan.method),
        figures="\n".join(_figure(one) for one in part.exhibits),
    )


def _how(method_id: str) -> str:
    """Returns which methods made a part, as HTML."""
    for direction in Direction:
        first, second = direction.methods
        if first.id == method_id:
            ids = f"<code>{first.id}</code>, then <code>{second.id}</code>"
            return f"<code>chain {direction.value}</code>: {ids}"
    return f"<code>{method_id}</code>, {escape(find_method(method_id).label)}"


def _figure(one: Exhibit) -> str:
    return _FIGURE.format(link=quote(one.path.name), caption=escape(one.caption))

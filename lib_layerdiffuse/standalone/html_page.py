"""Pages of images with captions, as one HTML file: transparent ones over a checkerboard."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
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
<h1>{heading}</h1>
{lead}
{sections}
</body>
</html>
"""
_SECTION = """<section>
<h2>{title}</h2>
<p>{how}</p>
{lines}{figures}
</section>"""
_FIGURE = """<figure><a href="{link}"><img src="{link}" alt="{caption}" loading="lazy"></a>
<figcaption>{caption}</figcaption></figure>"""


def html_page(title: str, heading: str, lead: str, sections: Iterable[str]) -> str:
    """Returns a page.

    Args:
        title: The window's; text, as is the heading.
        heading: Above all.
        lead: Below it; HTML.
        sections: What `html_section` returned.
    """
    head = {"title": escape(title), "heading": escape(heading)}
    return _PAGE.format(**head, lead=lead, sections="\n".join(sections))


def html_section(
    title: str, how: str, figures: Iterable[str] = (), lines: Iterable[str] = ()
) -> str:
    """Returns a titled part of a page.

    Args:
        title: Text.
        how: What is said below it; HTML.
        figures: What `html_figure` returned.
        lines: What stands in a list above them; texts.
    """
    shown, listed = "\n".join(figures), "".join(f"<li>{escape(one)}</li>\n" for one in lines)
    return _SECTION.format(
        title=escape(title),
        how=how,
        lines=f"<ul>\n{listed}</ul>\n" if listed else "",
        figures=f'<div class="layers">\n{shown}\n</div>' if shown else "",
    )


def html_figure(link: str, caption: str) -> str:
    """Returns an image with its caption, which is text.

    Args:
        link: Its path from the page, with `/` between the parts.
        caption: What is said of it.
    """
    return _FIGURE.format(link=quote(link), caption=escape(caption))

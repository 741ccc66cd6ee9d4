"""Wildcards in layer prompts: drawn once a set where an extension offers to, else told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...settings.chains import prompted_layers
from ...settings.layer_settings import PROMPTS, LayerSettings

_WILDCARD = re.compile(r"\{[^{}]*\|[^{}]*\}|__[^\s_][^\s]*?__")

_Draw = Callable[[Sequence[str], Sequence[int]], Sequence[str]]


def drawn(p: Any, settings: LayerSettings, seeds: Sequence[int]) -> list[LayerSettings]:
    """Returns the settings of each set, with the words that its wildcards stand for.

    Args:
        p: The host's processing object, whose scripts may offer to draw.
        settings: The job's.
        seeds: Each set's first.
    """
    offered = _offered(p)
    if not offered:
        return [settings] * len(seeds)
    texts = {name: [getattr(settings, name)] * len(seeds) for name in PROMPTS}
    for draw in offered:
        texts = {
            name: list(draw(of_sets, seeds)) if any(of_sets) else of_sets
            for name, of_sets in texts.items()
        }
    return [
        replace(settings, **{name: of_sets[number] for name, of_sets in texts.items()})
        for number in range(len(seeds))
    ]


def _offered(p: Any) -> list[_Draw]:
    """Returns what scripts offer to draw by, as stable-diffusion-webui-wildcards does."""
    scripts = getattr(p.scripts, "alwayson_scripts", ())
    offered = (getattr(script, "replace_prompts", None) for script in scripts)
    return [draw for draw in offered if callable(draw)]


def undrawn(settings: LayerSettings) -> str | None:
    """Returns a wildcard that a layer prompt which counts still holds, or None."""
    layers = prompted_layers(settings.method, settings.chain) if settings.acts else ()
    texts = (
        text for one in layers for text in (settings.prompt(one), settings.negative_prompt(one))
    )
    found = (_WILDCARD.search(text) for text in texts)
    return next((match[0] for match in found if match), None)

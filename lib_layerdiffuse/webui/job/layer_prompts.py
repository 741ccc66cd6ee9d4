"""The layers' own prompts, as the WebUI composes prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

from ...errors import SettingsError
from ...methods import Layer
from ...pipeline import layer_prompts
from ...settings.chains import step_prompt
from ...settings.layer_settings import LayerSettings

_AND = re.compile(r"\bAND\b")  # As the host splits a prompt into those that it composes.
_EXTRA_NETWORK = re.compile(r"<\w+:[^<>]+>")


def row_prompts(
    of_sets: Sequence[LayerSettings], prompts: Sequence[str], negative: bool
) -> list[str]:
    """Returns each row's prompt, with its layer's own before each prompt that AND composes.

    Args:
        of_sets: The layers' own prompts, set by set; the last one's count for any rows more.
        prompts: The batch's (negative) prompts by row.
        negative: Whether these are the negative ones, which the host does not compose.

    Raises:
        BatchSizeError: The rows are not whole sets.
    """
    put = step_prompt if negative else _put_before_each
    frames = of_sets[0].method.frames
    sets = (prompts[row : row + frames] for row in range(0, len(prompts), frames))
    own = chain(of_sets, repeat(of_sets[-1]))
    return [
        text
        for of_set, rows in zip(own, sets, strict=False)
        for text in layer_prompts(of_set, rows, negative, put)
    ]


def _put_before_each(own: str, main: str) -> str:
    if not own:
        return main
    return " AND ".join(step_prompt(own, part.strip()) for part in _AND.split(main))


def composes(p: Any) -> bool:
    """Whether a prompt of the job is one of several that AND joins."""
    prompts = getattr(p, "all_prompts", None) or [p.prompt]
    return any(_AND.search(prompt) for prompt in prompts)


def check_layer_prompts(settings: LayerSettings) -> None:
    """Checks that the layers' own prompts hold nothing that acts on the whole batch.

    Raises:
        SettingsError: One does; `field` names it.
    """
    for layer in Layer:
        for name in (f"{layer.value}_prompt", f"{layer.value}_negative_prompt"):
            tag = _EXTRA_NETWORK.search(getattr(settings, name))
            if tag:
                raise _acts_on_all(tag[0], name)
        if _AND.search(settings.prompt(layer)):
            raise _acts_on_all("AND", f"{layer.value}_prompt")


def _acts_on_all(what: str, field: str) -> SettingsError:
    return SettingsError(
        f"A layer prompt cannot hold {what}, which acts on all layers.",
        "Put it into the main prompt.",
        field=field,
    )

"""Comments in the layers' own prompts, which the host takes out of the main ones only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules import shared

from ...settings.layer_settings import PROMPTS, LayerSettings

_OPTION = "enable_prompt_comments"
_MARK = "#"


def without_comments(p: Any, settings: LayerSettings) -> LayerSettings:
    """Returns the settings with layer prompts as the host would read them.

    Args:
        p: The host's processing object; what it overrides is not among the host's options yet.
        settings: The user's choices.
    """
    if not p.override_settings.get(_OPTION, getattr(shared.opts, _OPTION, False)):
        return settings
    read: dict[str, Any] = {name: _without(getattr(settings, name)) for name in PROMPTS}
    return replace(settings, **read)


def _without(text: str) -> str:
    if _MARK not in text:
        return text
    lines = [line.partition(_MARK)[0].rstrip() for line in text.split("\n") if line[:1] != _MARK]
    return "\n".join(lines).strip()

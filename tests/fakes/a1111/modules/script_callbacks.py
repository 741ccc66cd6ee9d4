"""What other code wants to be told; an exception in it is logged and goes no further."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

cfg_denoiser: list[Callable[[Any], None]] = []


def on_cfg_denoiser(callback: Callable[[Any], None], *, name: str | None = None) -> None:
    cfg_denoiser.append(callback)


def remove_callbacks_for_function(callback: Callable[[Any], None]) -> None:
    cfg_denoiser[:] = [known for known in cfg_denoiser if known != callback]


def cfg_denoiser_callback(params: Any) -> None:
    for callback in cfg_denoiser:
        try:
            callback(params)
        except Exception:
            logging.getLogger(__name__).exception("in a callback")

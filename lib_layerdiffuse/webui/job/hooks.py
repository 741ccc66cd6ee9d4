"""Hooks that act for jobs of ours only, and end a job where they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from .abort import Tripwire, abort, as_raised

_log = logging.getLogger(__name__)
_HANDED_OUT = {"postprocess": "images", "postprocess_image_after_composite": "image"}
"""What a hook's argument holds that the host may hand out before it touches anything else."""


def hook_of(find: Callable[[Any], Any]) -> Callable[..., Any]:
    """Returns a decorator for a script's hooks.

    The hook gets the job's state behind the processing object, and is left out for other jobs.

    Args:
        find: Returns the state on a processing object, or None.
    """

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        handed_out = _HANDED_OUT.get(method.__name__)

        @wraps(method)
        def run(self: Any, p: Any, *args: Any, **kwargs: Any) -> None:
            state = find(p)
            if state is None:
                return
            try:
                method(self, p, state, *args, **kwargs)
            except Exception as error:
                raised = abort(p, error)
                if handed_out is not None:
                    setattr(args[0], handed_out, Tripwire(raised))

        return run

    return decorate


def callback_of(taken: str) -> Callable[..., Callable[[Any], None]]:
    """Returns a decorator for a callback that serves images whose job is over or unknown.

    The host catches what a callback raises and goes on with images that it has not seen to; so
    the error rises where the host takes them.

    Args:
        taken: The attribute of the callback's argument that holds them.
    """

    def decorate(callback: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(callback)
        def run(params: Any) -> None:
            try:
                callback(params)
            except Exception as error:
                _log.exception("LayerDiffuse failed", exc_info=error)
                setattr(params, taken, Tripwire(as_raised(getattr(params, "p", None), error)))

        return run

    return decorate

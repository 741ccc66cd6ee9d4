"""Hooks that act for jobs of ours only, and end a job where they fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from .abort import Tripwire, abort


def hook_of(find: Callable[[Any], Any], end: Callable[[Any], None]) -> Callable[..., Any]:
    """Returns a decorator for a script's hooks.

    The hook gets the job's state behind the processing object, and is left out for other jobs.

    Args:
        find: Returns the state on a processing object, or None.
        end: Takes it off.
    """

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        @wraps(method)
        def run(self: Any, p: Any, *args: Any, **kwargs: Any) -> None:
            state = find(p)
            if state is None:
                return
            try:
                method(self, p, state, *args, **kwargs)
            except Exception as error:
                end(p)
                seen = abort(p, error)
                if method.__name__ == "postprocess":  # The host touches nothing else any more.
                    args[0].images = Tripwire(seen)

        return run

    return decorate

"""Stops a job from inside a script hook.

The host catches what a hook raises and goes on with a half-prepared job. So the error is left in
what the host touches next, outside of its hooks: it rises there and ends the job like any other.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from fastapi import HTTPException

from ..errors import LayerDiffuseError

_log = logging.getLogger(__name__)
_BAD_REQUEST, _SERVER_ERROR = 422, 500


class Tripwire:
    """Raises an error at the first use."""

    def __init__(self, error: Exception) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.__dict__["error"]


def abort(p: Any, error: Exception) -> Exception:
    """Makes the job fail with this error at the host's next step; returns what the host will see.

    In the WebUI the error's text is shown under the gallery. Over the API the answer is status 422
    (500 for what was not raised on purpose) with the error as JSON in `detail`.
    """
    expected = isinstance(error, LayerDiffuseError)
    if expected:
        _log.error("LayerDiffuse: %s", error)
    else:
        _log.exception("LayerDiffuse failed", exc_info=error)
    seen: Exception = error
    if getattr(p, "is_api", False):
        detail = (
            error.as_dict()
            if isinstance(error, LayerDiffuseError)
            else {"error": type(error).__name__, "message": str(error), "hint": "", "field": None}
        )
        seen = HTTPException(_BAD_REQUEST if expected else _SERVER_ERROR, detail=detail)
    p.scripts = Tripwire(seen)
    p.sampler = Tripwire(seen)
    return seen

"""Stops a job from inside a script hook.

The host catches what a hook raises and goes on with a half-prepared job. So the error is left in
what the host touches next, outside of its hooks: it rises there and ends the job like any other.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from fastapi import HTTPException

from ...errors import LayerDiffuseError, SettingsError
from ...settings.layer_settings import api_name
from .state import take_all

_log = logging.getLogger(__name__)
_BAD_REQUEST, _SERVER_ERROR = 422, 500


class Tripwire:
    """Raises an error at the first use; the host may ask whether it is there."""

    def __init__(self, error: Exception) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.__dict__["error"]

    def __bool__(self) -> bool:
        return True

    def _raise(self, *_: object) -> NoReturn:
        raise self.__dict__["error"]

    __iter__ = __len__ = __getitem__ = __add__ = __radd__ = _raise


def abort(p: Any, error: Exception) -> Exception:
    """Makes the job fail with this error at the host's next step; returns what is raised there.

    What the job has changed is given back.

    In the WebUI the error's text is shown under the gallery. Over the API the answer is status 422
    (500 for what was not raised on purpose) with the error as JSON in `detail`.
    """
    if isinstance(error, LayerDiffuseError):
        _log.error("LayerDiffuse: %s", error)
    else:
        _log.exception("LayerDiffuse failed", exc_info=error)
    take_all(p)
    raised = as_raised(p, error)
    p.scripts = Tripwire(raised)
    p.sampler = Tripwire(raised)
    return raised


def is_aborted(p: Any) -> bool:
    """Whether a script of ours has made the job fail, so that no other should begin."""
    return isinstance(p.scripts, Tripwire)


def as_raised(p: Any, error: Exception) -> Exception:
    """Returns what to raise in the host for an error: over the API, an HTTP answer."""
    return as_http(error) if getattr(p, "is_api", False) else error


def as_http(error: Exception) -> HTTPException:
    """Returns the API's answer: status 422 (500 for faults of our own), the error in `detail`."""
    if not isinstance(error, LayerDiffuseError):
        detail = {"error": type(error).__name__, "message": str(error), "hint": "", "field": None}
        return HTTPException(_SERVER_ERROR, detail=detail)
    return HTTPException(_BAD_REQUEST, detail=error.as_dict() | {"field": _name(error.field)})


def _name(field: str | None) -> str | None:
    """Returns what the API calls a field of the settings; any other name stays."""
    try:
        return api_name(field) if field else None
    except SettingsError:
        return field

"""Stops a job from inside a script hook.

The host catches what a hook raises and goes on with a half-prepared job. So the error is left in
what the host touches next, outside of its hooks: it rises there and ends the job like any other.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from ...errors import LayerDiffuseError
from .answers import as_http
from .state import take_all

_log = logging.getLogger(__name__)


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

    In the WebUI the error's text is shown under the gallery. Over the API it is an answer, see
    `answers`.
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

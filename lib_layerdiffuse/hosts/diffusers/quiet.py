"""Progress bars and advice that the libraries would write over a front end's own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

_LIBRARIES = ("accelerate", "diffusers", "huggingface_hub", "py.warnings", "torch", "transformers")
_log = logging.getLogger(__name__)


class _ToOurLog(logging.Handler):
    """Notes what a library says in our log, as information: what matters is raised."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.info("%s: %s", record.name, record.getMessage())


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' records, warnings and bars off the console; the log has them."""
    with ExitStack() as undo:
        for library in (diffusers_logging, transformers_logging):
            library.get_logger()  # Makes its handler, where it has none yet.
        for name in _LIBRARIES:
            _redirect(logging.getLogger(name), undo)
        for library in (diffusers_logging, transformers_logging):
            if library.is_progress_bar_enabled():
                undo.callback(library.enable_progress_bar)
                library.disable_progress_bar()
        undo.enter_context(warnings.catch_warnings())
        warnings.showwarning = _show  # type: ignore[assignment]
        yield


def _redirect(logger: logging.Logger, undo: ExitStack) -> None:
    undo.callback(setattr, logger, "handlers", logger.handlers)
    undo.callback(setattr, logger, "propagate", logger.propagate)
    logger.handlers = [_ToOurLog()]
    logger.propagate = False


def _show(message: Warning | str, category: type[Warning], *_place: object) -> None:
    _log.info("%s: %s", category.__name__, message)

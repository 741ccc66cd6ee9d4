"""What the page shows where a job fails."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from ..errors import LayerDiffuseError

_log = logging.getLogger(__name__)


@contextmanager
def shown_errors() -> Iterator[None]:
    """Shows what goes wrong on the page, with what to do about it."""
    try:
        yield
    except LayerDiffuseError as error:
        said = "<br>".join(html.escape(text) for text in (error.message, error.hint) if text)
        raise gr.Error(said, title="This job cannot work", print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:
        _log.exception("The studio's job failed")
        said = html.escape(f"{type(error).__name__}: {error}")
        raise gr.Error(said, title="Unexpected error", print_exception=False) from error

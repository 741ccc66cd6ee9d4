"""What the WebUI shows of a job's slow parts, and whether the user has stopped it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modules import shared

from ...errors import DownloadStoppedError


def stopped() -> bool:
    """Whether the user has interrupted or skipped the job."""
    return bool(shared.state.interrupted or shared.state.skipped)


def show(text: str) -> None:
    """Shows what is being done, beside the progress bar and in the API's progress."""
    shared.state.textinfo = f"LayerDiffuse: {text}"


@contextmanager
def telling(text: str) -> Iterator[None]:
    """Shows what is being done meanwhile; the host itself never takes such a text away."""
    before = shared.state.textinfo
    show(text)
    try:
        yield
    finally:
        shared.state.textinfo = before


def show_download(name: str, done: int, total: int | None) -> None:
    """Shows how far a download is.

    Raises:
        DownloadStoppedError: The user stopped it; what is there is kept.
    """
    share = f"{done / total:.0%}" if total else f"{done >> 20} MiB"
    show(f"downloading {name}, {share}")
    if stopped() or getattr(shared.state, "stopping_generation", False):
        raise DownloadStoppedError(
            f"The download of {name} was stopped at {share}.", "Run again to go on."
        )

"""One download: what is to be fetched, and what the user is told where it fails."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DiskFullError, DownloadError

Report = Callable[[int, "int | None"], None]
"""Called with the bytes done and the bytes in all, None where the server does not say."""


@dataclass(frozen=True)
class Download:
    """One file to fetch.

    Attributes:
        url: Its address.
        target: Where it goes once it is whole and verified; named in errors.
        part: Where the bytes gather.
        size: Its bytes where known, else None.
        report: Receives the progress. An exception that it raises stops the download, keeps `part`
            and reaches the caller.
    """

    url: str
    target: Path
    part: Path
    size: int | None
    report: Report

    @property
    def by_hand(self) -> str:
        """What to do when nothing else helps."""
        return f"fetch {self.url} by hand and put it into {self.target.parent}"


class Broken(Exception):
    """The connection failed in a way that another attempt may mend."""


def disk_error(job: Download, error: OSError, total: int | None) -> DownloadError:
    """Returns what to tell of a disk that takes no more."""
    name, folder = job.target.name, job.target.parent
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        done = job.part.stat().st_size if job.part.exists() else 0
        missing = size_text(total - done) if total is not None else "some space"
        return DiskFullError(
            f"The disk is full: {name} could not be fetched to {folder}.",
            f"Free {missing} and try again: the download goes on where it stopped.",
        )
    return DownloadError(
        f"{name} could not be written to {folder}: {error.strerror or error}.",
        "Allow writing there, or choose another folder.",
    )


def size_text(count: int) -> str:
    """Returns a number of bytes as people read it, rounded up."""
    return f"{-(-count // 10**6)} MB" if count >= 10**6 else f"{count} bytes"


def refused(job: Download, status: int, headers: Any) -> DownloadError:
    """Returns what to tell of an answer that is no file."""
    said = headers.get("X-Error-Message")
    answer = f"HTTP {status}" + (f" ({said})" if said else "")
    if status in {401, 403}:
        hint = f"Set HF_TOKEN to a token that may read the file, or {job.by_hand}."
    elif status == 404:
        hint = "Check HF_ENDPOINT: the mirror may lack the file; unset it or name another one."
    else:
        hint = f"Try again later, set HF_ENDPOINT to a mirror, or {job.by_hand}."
    return DownloadError(
        f"{job.target.name} could not be downloaded: {job.url} answers {answer}.", hint
    )


def network_error(job: Download, broken: Broken) -> DownloadError:
    """Returns what to tell of a connection that stays broken."""
    done = job.part.stat().st_size
    kept = f" The {size_text(done)} that are there are kept for the next try." if done else ""
    return DownloadError(
        f"{job.target.name} could not be downloaded from {job.url}: {broken}.",
        f"Check the network, set HF_ENDPOINT to a mirror, or {job.by_hand}.{kept}",
    )

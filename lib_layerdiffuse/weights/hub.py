"""Fetches one file from a Hugging Face Hub and continues what an earlier run left.

huggingface_hub gives the address, the session (proxies, certificates) and the token. The bytes are
streamed here, because its own download call no longer continues after the process was killed
(a new, randomly named partial file for each run), which hurts with files of gigabytes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import RawIOBase
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, tqdm

from ..errors import ChecksumError, DiskFullError, DownloadError, shortened
from .download import Broken, Download, disk_error, network_error, refused, size_text

_HUB = "https://huggingface.co"
CHUNK = 64 * 1024
RETRIES = 3
"""Attempts in a row that may bring no byte before the download is given up."""
RETRY_WAIT = 1.0
"""Seconds to wait before the first such attempt; each further one waits as much longer."""
REPORT_EVERY = 0.5
"""Seconds between two progress reports."""


def file_url(repo: str, revision: str, filename: str) -> str:
    """Returns the address of a file on the Hub, or on the mirror named by HF_ENDPOINT now.

    Raises:
        DownloadError: HF_ENDPOINT is no address.
    """
    # Not the library's own, which takes an empty variable for the address.
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or _HUB
    if not _is_address(endpoint):
        raise DownloadError(
            f"HF_ENDPOINT is {shortened(endpoint)}, which is no address.",
            "Write it with https:// in front, or leave it out.",
        )
    return hf_hub_url(repo, filename, revision=revision, endpoint=endpoint)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # Brackets without an end, a port that is no number.
        return False


def is_offline() -> bool:
    """Returns whether HF_HUB_OFFLINE is set, now or when huggingface_hub was imported."""
    value = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return constants.HF_HUB_OFFLINE or value in {"1", "ON", "YES", "TRUE"}


def fetch(job: Download) -> None:
    """Returns when `job.part` holds every byte of the file; continues a part that is there.

    The bytes are not verified; that is the caller's work.

    Raises:
        DownloadError: Refused, not found, no network, or the disk is full; `part` stays.
        ChecksumError: The server offers a file of another size than `job.size`.
    """
    try:
        out = job.part.open("ab", buffering=0)
    except OSError as error:
        raise disk_error(job, error, None) from error
    with out, _Meter(job, out.tell()) as meter:
        failures = 0
        while True:
            start = out.tell()
            try:
                _receive(job, out, meter)
            except Broken as broken:
                failures = 1 if out.tell() > start else failures + 1
                if failures > RETRIES:
                    raise network_error(job, broken) from broken
                time.sleep(RETRY_WAIT * failures)
            else:
                _sync(job, out)
                return


def _write(out: RawIOBase, chunk: bytes) -> None:
    """Writes the whole chunk; an unbuffered file may take a part of it at a time."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) or 0 :]


def _sync(job: Download, out: RawIOBase) -> None:
    """Makes the bytes outlive a power cut, so that a name never stands for a hole."""
    try:
        os.fsync(out.fileno())
    except OSError as error:
        raise disk_error(job, error, None) from error


def _receive(job: Download, out: RawIOBase, meter: _Meter) -> None:
    """Appends what the server sends until the file is whole."""
    start = out.tell()
    if job.size is not None and start == job.size:
        return
    with ExitStack() as stack:
        try:
            response, chunks = stack.enter_context(_get(job.url, start))
        except Exception as error:
            raise Broken(str(error)) from error
        if (
            response.status_code == 416
            and response.headers.get("Content-Range") == f"bytes */{start}"
        ):
            return  # there is nothing after what is on disk
        total = _accept(job, response, out)
        _check_space(job, total, out.tell())
        meter.begin(out.tell(), total)
        for chunk in _guarded(chunks):
            try:
                _write(out, chunk)
            except OSError as error:
                raise disk_error(job, error, total) from error
            meter.add(len(chunk))
    if total is not None and out.tell() < total:
        raise Broken(f"the connection closed after {out.tell()} of {total} bytes")


@contextmanager
def _get(url: str, start: int) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """Returns the response of a GET from byte `start` on, and its body in chunks."""
    headers = build_hf_headers(library_name="layerdiffuse") | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session: Any = get_session()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(getattr(session, "stream", None)):  # an httpx client: huggingface_hub 1 and later
        with session.stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            yield response, response.iter_bytes()  # as they come
    else:  # a requests session: huggingface_hub 0.x
        with session.get(url, headers=headers, timeout=timeout, stream=True) as response:
            yield response, response.iter_content(CHUNK)


def _guarded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:
        raise Broken(str(error)) from error


def _accept(job: Download, response: Any, out: RawIOBase) -> int | None:
    """Returns the whole file's size, or None, and rewinds `out` where the body starts at 0."""
    status, headers = response.status_code, response.headers
    if status in {408, 429} or status >= 500:
        raise Broken(f"HTTP {status}")
    if status not in {200, 206, 416}:
        raise refused(job, status, headers)
    answered = headers.get("Content-Range", "")
    if status != 206:
        _rewind(job, out)
    elif not answered.startswith(f"bytes {out.tell()}-"):
        raise Broken(f"asked for bytes from {out.tell()} on, got {answered!r}")
    if status == 416:
        raise Broken("the part on disk is longer than the file")
    length = answered.rpartition("/")[2] if status == 206 else headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    if total is not None and job.size is not None and total != job.size:
        raise ChecksumError(
            f"{job.url} is not the released {job.target.name}: it has {total} bytes instead of "
            f"{job.size}.",
            f"Check HF_ENDPOINT and the proxy, or {job.by_hand}.",
        )
    return total


def _rewind(job: Download, out: RawIOBase) -> None:
    if out.tell():
        try:
            out.truncate(0)
            out.seek(0)
        except OSError as error:
            raise disk_error(job, error, None) from error


def _check_space(job: Download, total: int | None, done: int) -> None:
    try:
        free = shutil.disk_usage(job.part.parent).free
    except OSError:
        return
    if total is not None and total - done > free:
        raise DiskFullError(
            f"The disk is too full for {job.target.name}: {size_text(total - done)} have to go to "
            f"{job.target.parent}, where {size_text(free)} are free.",
            f"Free {size_text(total - done - free)} more and try again.",
        )


class _Meter:
    """The console's progress bar and the caller's reports."""

    def __init__(self, job: Download, done: int) -> None:
        self._job, self._done, self._total = job, done, job.size
        self._last = 0.0
        self._bar: Any = tqdm(
            desc=job.target.name,
            total=job.size,
            initial=done,
            unit="B",
            unit_scale=True,
            disable=None,  # no bar where the console is no terminal
        )

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._bar.close()
        if kind is None:
            self._job.report(self._done, self._total)

    def begin(self, done: int, total: int | None) -> None:
        """The body starts at byte `done` of `total`."""
        self._done, self._total = done, total if total is not None else self._total
        self._bar.total = self._total
        self._bar.update(done - self._bar.n)
        self._job.report(self._done, self._total)

    def add(self, count: int) -> None:
        """`count` more bytes are written."""
        self._done += count
        self._bar.update(count)
        if time.monotonic() - self._last >= REPORT_EVERY:
            self._last = time.monotonic()
            self._job.report(self._done, self._total)

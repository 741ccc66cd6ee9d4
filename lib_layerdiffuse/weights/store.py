"""The weight files on disk: found, fetched, verified and loaded.

A file is used only if its SHA-256 is the released one, or the one that a `SHA256SUMS` beside it
gives for its name. Only `.safetensors` files are ever opened.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from torch import Tensor

from ..callbacks import OnDownload
from ..errors import ChecksumError, DownloadError, WeightsError, WeightsNotFoundError
from ..files.locks import file_lock
from ..released import HUB_REPO, HUB_REVISION, WeightFile
from .checksums import LIST_NAME, HashMemo, listed_hashes, problem_with, sha256_of
from .download import Download
from .hub import fetch, file_url, is_offline
from .tensor_files import load_tensors

_log = logging.getLogger(__name__)


class FileState(str, Enum):
    """What stands on disk under a weight file's name."""

    PRESENT = "present"  # the released file, or not hashed yet and of the right size
    OWN = "own"  # another file, that SHA256SUMS vouches for
    CORRUPT = "corrupt"  # of other bytes, or unreadable
    MISSING = "missing"


@dataclass(frozen=True)
class FileStatus:
    """One line of a listing.

    Attributes:
        path: The file, or None if it is missing.
        state: What it is.
        detail: The same for people, with what is known of its bytes.
    """

    path: Path | None
    state: FileState
    detail: str

    @property
    def usable(self) -> bool:
        """Whether a run may use it, as far as is known."""
        return self.state in {FileState.PRESENT, FileState.OWN}


class WeightStore:
    """The weight files of one WebUI.

    Safe to use from several processes at once: one downloads, the others wait for its file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        extra_folders: Sequence[Path] = (),
        offline: bool = False,
        on_progress: OnDownload | None = None,
        repo: str = HUB_REPO,
        revision: str = HUB_REVISION,
    ) -> None:
        """Makes a store; nothing is read or written yet.

        Args:
            folder: Where downloads land. A hidden folder in it keeps partial downloads, locks and
                the hashes of verified files.
            extra_folders: Where else to look. Nothing is ever changed there.
            offline: Never download. HF_HUB_OFFLINE does the same.
            on_progress: Called from the downloading thread about twice a second. An exception that
                it raises stops the download; what is there is kept for the next try.
            repo: Repository on the Hub.
            revision: Its commit.
        """
        self.folder = Path(folder)
        self.extra_folders = tuple(Path(extra) for extra in extra_folders)
        self.offline = offline
        self.on_progress = on_progress
        self.repo, self.revision = repo, revision
        self._state = self.folder / ".layerdiffuse"
        self._memo = HashMemo(self._state / "verified.json")

    def url(self, file: WeightFile) -> str:
        """Returns the address to fetch the file from, on the mirror if HF_ENDPOINT names one."""
        return file_url(self.repo, self.revision, file.filename)

    def find(self, file: WeightFile) -> Path | None:
        """Returns the first file of that name, own folder first, unverified; None if none."""
        places = (folder / file.filename for folder in (self.folder, *self.extra_folders))
        return next((path for path in places if os.path.isfile(path)), None)

    def ensure(self, file: WeightFile) -> Path:
        """Returns the path of a verified copy of the file, downloaded if need be.

        A bad file in the own folder is set aside as `NAME.bad-1` and fetched again. One in an
        extra folder, or any while offline, is refused.

        Raises:
            WeightsNotFoundError: Not on disk, and offline; or it cannot be read.
            ChecksumError: Its bytes are not the released ones, and nobody vouched for them.
            DownloadError: It could not be fetched.
        """
        path = self.find(file)
        problem = self._problem(file, path) if path else None
        if path and problem is None:
            return path
        offline = self.offline or is_offline()
        if path and problem and (offline or path.parent != self.folder):
            raise ChecksumError(problem, self._replace_hint(file, path))
        if offline:
            raise self._not_found(file)
        with self._locked(file, problem):
            return self._find_good(file) or self._download(file)

    def sha256(self, file: WeightFile) -> str:
        """Returns the SHA-256 of the copy that a run uses; ensures it first.

        Raises:
            WeightsError: As `ensure`.
        """
        return self._memo.hash(self.ensure(file))

    def load(self, file: WeightFile) -> dict[str, Tensor]:
        """Returns the file's tensors by name, on the CPU and memory-mapped; ensures it first.

        Raises:
            WeightsError: As `ensure`; ChecksumError too if it is no safetensors file.
        """
        path = self.ensure(file)
        try:
            return load_tensors(path, str(path))
        except WeightsError as error:
            if isinstance(error.__cause__, OSError):
                raise _unreadable(path, error.__cause__) from error
            raise ChecksumError(error.message, self._replace_hint(file, path)) from error

    def verify(self, file: WeightFile) -> FileStatus:
        """Returns the file's status after reading all of its bytes anew."""
        return self.status(file, check_hash=True)

    def status(self, file: WeightFile, *, check_hash: bool = False) -> FileStatus:
        """Returns what is on disk; downloads nothing and leaves every weight file as it is.

        Without `check_hash` only sizes and remembered hashes are compared.
        """
        path = self.find(file)
        if path is None:
            done = _size_or_0(self._part(file))
            part = f"; {done} bytes of it are fetched, the download goes on there" if done else ""
            return FileStatus(None, FileState.MISSING, f"not on disk{part}")
        try:
            got = self._memo.hash(path, fresh=True) if check_hash else self._memo.recall(path)
            problem = problem_with(path, file, got)
        except OSError as error:
            return FileStatus(path, FileState.CORRUPT, _unreadable(path, error).message)
        if problem is not None:
            return FileStatus(path, FileState.CORRUPT, problem)
        if got is None:
            state = FileState.OWN if listed_hashes(path) - {file.sha256} else FileState.PRESENT
            return FileStatus(path, state, "found; its bytes are not checked yet")
        if got == file.sha256:
            return FileStatus(path, FileState.PRESENT, "the released file, verified")
        return FileStatus(path, FileState.OWN, f"your own file, vouched for by {LIST_NAME}")

    def _problem(self, file: WeightFile, path: Path) -> str | None:
        """Returns why `path` may not be used, or None if it may."""
        try:
            return problem_with(path, file, None) or problem_with(path, file, self._memo.hash(path))
        except FileNotFoundError:  # another process set it aside just now
            return f"{path} is not there any more."
        except OSError as error:
            raise _unreadable(path, error) from error

    def _find_good(self, file: WeightFile) -> Path | None:
        """Returns a verified copy on disk, or None; sets bad ones in the own folder aside."""
        while (path := self.find(file)) is not None:
            problem = self._problem(file, path)
            if problem is None:
                return path
            if path.parent != self.folder:
                raise ChecksumError(problem, self._replace_hint(file, path))
            self._set_aside(file, path, problem)
        return None

    def _set_aside(self, file: WeightFile, path: Path, problem: str) -> None:
        n = 1
        while (aside := path.with_name(f"{path.name}.bad-{n}")).exists():
            n += 1
        try:
            path.rename(aside)
        except OSError as error:
            raise ChecksumError(problem, self._replace_hint(file, path)) from error
        _log.warning(
            "%s It is now called %s, and the released file is fetched. %s",
            problem,
            aside.name,
            f"If it is your own, name it back and add it to {LIST_NAME} there.",
        )

    def _download(self, file: WeightFile) -> Path:
        """Fetches the file, twice if the first bytes are wrong; nobody else may do so meanwhile."""
        url, target, part = self.url(file), self.folder / file.filename, self._part(file)
        report = partial(self.on_progress, file.filename) if self.on_progress else _ignore
        job = Download(url, target, part, file.size, report)
        got = ""
        for _ in range(2):
            _log.info("Fetching %s from %s", file.filename, url)
            fetch(job)
            try:
                got = sha256_of(part)
                if got == file.sha256:
                    part.replace(target)
                    self._memo.remember(target, got)
                    return target
                part.unlink()
            except OSError as error:
                raise DownloadError(
                    f"{target.name} could not be put into {self.folder}: {error}.",
                    "Allow writing there and try again.",
                ) from error
        raise ChecksumError(
            f"{url} is not the released {target.name}: its SHA-256 is {got} instead of "
            f"{file.sha256}.",
            f"Check HF_ENDPOINT and the proxy, or {job.by_hand}.",
        )

    def _part(self, file: WeightFile) -> Path:
        return self._state / f"{file.filename}.{file.sha256[:8]}.part"

    @contextmanager
    def _locked(self, file: WeightFile, problem: str | None) -> Iterator[None]:
        """Holds the file's lock between processes; `problem` is what the copy on disk has."""

        def waiting() -> None:
            if self.on_progress:
                self.on_progress(file.filename, _size_or_0(self._part(file)), file.size)

        with ExitStack() as stack:
            try:
                self._state.mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock(self._state / f"{file.filename}.lock", waiting))
            except OSError as error:
                if problem:
                    hint = self._replace_hint(file, self.folder / file.filename)
                    raise ChecksumError(problem, hint) from error
                raise DownloadError(
                    f"Nothing can be written to {self.folder}: {error}.",
                    f"Allow writing there, or fetch {self.url(file)} by hand and put it there.",
                ) from error
            yield

    def _not_found(self, file: WeightFile) -> WeightsNotFoundError:
        looked = ", ".join(str(folder) for folder in (self.folder, *self.extra_folders))
        return WeightsNotFoundError(
            f"{file.filename} is missing, and downloads are off. It was looked for in {looked}.",
            f"Fetch {self.url(file)} by hand and put it into {self.folder}, or allow downloads.",
        )

    def _replace_hint(self, file: WeightFile, path: Path) -> str:
        return (
            f"Replace it with {self.url(file)}, or, if it is your own, list it in {LIST_NAME}: run "
            f"`sha256sum {path.name} >> {LIST_NAME}` in {path.parent}."
        )


def _unreadable(path: Path, error: OSError) -> WeightsNotFoundError:
    return WeightsNotFoundError(
        f"{path} cannot be read: {error.strerror or error}.",
        "Allow reading it, or put a copy into another folder that is looked in.",
    )


def _size_or_0(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _ignore(done: int, total: int | None) -> None:
    """Reports to nobody."""

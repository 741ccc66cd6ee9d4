"""What a program gets over the API where something fails: a status by its kind, and no secrets.

Nothing of the server's own goes out: paths are told from the WebUI's folder on, or from the last
folder that has a name of its own, and addresses without their signatures.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from modules import paths, shared

from ...errors import (
    DiskFullError,
    DownloadStoppedError,
    LayerDiffuseError,
    SettingsError,
    WeightsError,
    without_secrets,
)
from ...nets.full_memory import is_memory_error
from ...settings.layer_settings import api_name

_MEND, _STOPPED, _DISK, _LATER, _FAULT = 422, 409, 507, 503, 500
_FULL = {errno.ENOSPC, errno.EDQUOT}
_HINTS = {
    _DISK: ("The disk is full.", "Make room on the server and try again."),
    _LATER: ("The memory is full.", "Choose a smaller size or fewer images, or try again later."),
}
_OF_THE_WEBUI = ("data_path", "script_path")
_FOLDER_OPTION = re.compile(r"outdir_|_models_folders$")
_FOLDERS = re.compile(  # All of an absolute path but its last part.
    r"(?<![\w:/\\.~-])(?:~?/|[A-Za-z]:[\\/]|\\\\)(?:[^\s/\\'\"<>|:*?,;]+[\\/])+"
)


def as_http(error: Exception) -> HTTPException:
    """Returns the API's answer: the status by the error's kind, the error in `detail`."""
    status = status_of(error)
    if isinstance(error, LayerDiffuseError):
        detail = error.as_dict() | {"field": _name(error.field)}
    else:
        message, hint = _HINTS.get(status, (str(error), ""))
        detail = {"error": type(error).__name__, "message": message, "hint": hint, "field": None}
    shown = {key: public(detail[key] or "") for key in ("message", "hint")}
    return HTTPException(status, detail=detail | shown)


def status_of(error: BaseException) -> int:
    """Returns the HTTP status of an error.

    422 for what the caller can mend, an extension to be turned off too; 409 for a job that was
    stopped, 507 for a full disk, 503 for full memory and for weight files that the server lacks,
    500 for faults of ours.
    """
    if isinstance(error, DownloadStoppedError):
        return _STOPPED
    causes = list(_causes(error))
    if any(isinstance(one, DiskFullError) or _is_full(one) for one in causes):
        return _DISK
    if isinstance(error, WeightsError) or any(map(is_memory_error, causes)):
        return _LATER
    return _MEND if isinstance(error, LayerDiffuseError) else _FAULT


def public(text: str) -> str:
    """Returns a text as it may leave the server: without its absolute paths and signatures."""
    text = without_secrets(text)
    for folder in _of(getattr(paths, name, None) for name in _OF_THE_WEBUI):
        text = text.replace(f"{folder}{os.sep}", "")
    for folder in _of(_folders()):
        text = text.replace(str(folder), "~" if folder == Path.home() else folder.name)
    return _FOLDERS.sub("", text)


def _folders() -> Iterator[Any]:
    """Yields the folders that messages name, the WebUI's own last."""
    yield getattr(shared.cmd_opts, "layerdiffuse_models_dir", None)
    for name in shared.opts.data_labels:
        if _FOLDER_OPTION.search(name):
            yield from str(getattr(shared.opts, name, "")).splitlines()
    yield from (paths.models_path, tempfile.gettempdir(), Path.home())
    yield from (getattr(paths, name, None) for name in _OF_THE_WEBUI)


def _of(folders: Iterator[Any]) -> Iterator[Path]:
    """Yields those folders that are absolute and no root, as they are named."""
    for folder in folders:
        path = Path(str(folder or "").strip())
        if path.is_absolute() and path.name:
            yield path


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, what it was raised from, and so on."""
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL


def _name(field: str | None) -> str | None:
    """Returns what the API calls a field of the settings; any other name stays."""
    try:
        return api_name(field) if field else None
    except SettingsError:
        return field

"""The host that this WebUI is; the one place of the front end that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import ref

from ...errors import MissingCapabilityError
from ...host import Attachment, Host
from ...hosts.detect import webui_host
from .abort import abort
from .extension_names import title_of

_host = cache(webui_host)


def problem() -> str | None:
    """Returns why the extension can do nothing in this WebUI, or None."""
    try:
        _host()
    except MissingCapabilityError as error:
        return str(error)
    return None


def loaded(p: Any) -> Host:
    """Returns the loaded checkpoint; ask at each use, since hires fix or a nested job changes it.

    To keep it would keep its memory.
    """
    known = ref(p)  # The UNet outlives it.
    return _host()(
        p.sd_model,
        lambda error: abort(known(), error),
        lambda file: title_of(known(), file),
    )


@contextmanager
def using(p: Any, attachment: Attachment) -> Iterator[None]:
    """Makes a pass use the UNet that an injection is on, until the context ends.

    Some hosts give the next pass the same objects, where it would be put on once more.
    """
    holder = getattr(p.sd_model, "forge_objects", None)
    if holder is None:  # The injection is on the host's own UNet.
        yield
        return
    before, holder.unet = holder.unet, attachment.unet
    try:
        yield
    finally:
        if holder.unet is attachment.unet:
            holder.unet = before

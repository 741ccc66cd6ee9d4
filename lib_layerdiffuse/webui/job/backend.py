"""The host that this WebUI is; the one place of the front end that asks for one."""

from __future__ import annotations

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


def put(p: Any, attachment: Attachment) -> None:
    """Makes the coming pass use the UNet that an injection is on."""
    holder = getattr(p.sd_model, "forge_objects", None)
    if holder is not None:  # Elsewhere the injection is on the host's own UNet.
        holder.unet = attachment.unet

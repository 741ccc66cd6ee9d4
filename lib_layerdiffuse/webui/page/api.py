"""The addresses below /layerdiffuse: what a program can ask for, and what is there for it."""

from __future__ import annotations

from typing import Any

from modules import shared

from ...errors import LayerDiffuseError
from ...settings.schema import methods_table, settings_schema
from ..job.answers import as_http
from ..job.choices import choices


def methods() -> list[dict[str, Any]]:
    """Returns the table of methods, with which of their files are on disk."""
    try:
        return methods_table(choices().store())
    except LayerDiffuseError as error:
        raise as_http(error) from error


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a dict of settings."""
    return settings_schema()


def add_routes(_demo: Any, app: Any) -> None:
    """Adds the addresses to the host's server, behind the host's own password if it has one."""
    host = _host_api(app)
    if host is None and getattr(shared.cmd_opts, "api_auth", None):
        return  # A password is asked for, and there is nobody to check it.
    add = app.add_api_route if host is None else host.add_api_route
    for answer in (methods, schema):
        add(f"/layerdiffuse/{answer.__name__}", answer, methods=["GET"])


def _host_api(app: Any) -> Any:
    """Returns the object whose methods answer the host's API, or None where that is off."""
    for route in app.routes:
        owner = getattr(getattr(route, "endpoint", None), "__self__", None)
        if hasattr(owner, "add_api_route") and getattr(route, "path", "").startswith("/sdapi/"):
            return owner
    return None

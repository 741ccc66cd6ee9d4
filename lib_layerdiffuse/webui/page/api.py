"""The addresses below /layerdiffuse: what a program can ask for, and what is there for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Depends
from modules import shared

from ...settings.schema import methods_table, settings_schema
from ..job.answers import as_http, public
from ..job.choices import choices

_PAGE_PASSWORDS = ("gradio_auth", "gradio_auth_path")


def methods() -> list[dict[str, Any]]:
    """Returns the table of methods, with which of their files are on disk."""
    try:
        rows = methods_table(choices().store())
    except Exception as error:
        raise as_http(error) from error
    for row in rows:
        for file in filter(None, (row["weights"], row["decoder"])):
            file["detail"] = public(file["detail"])
    return rows


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a dict of settings."""
    return settings_schema()


def add_routes(_demo: Any, app: Any) -> None:
    """Adds the addresses to the host's server, behind the login of its API, or else of its page.

    They are left out where a password is asked for and there is nobody to check it.
    """
    host, flags = _host_api(app), shared.cmd_opts
    if host is not None:
        add = host.add_api_route
    elif getattr(flags, "api_auth", None):
        return
    else:
        login = _page_login(app)
        if login is None and any(getattr(flags, name, None) for name in _PAGE_PASSWORDS):
            return
        needed = [] if login is None else [Depends(login)]
        add = partial(app.add_api_route, dependencies=needed)
    for answer in (methods, schema):
        add(f"/layerdiffuse/{answer.__name__}", answer, methods=["GET"])


def _host_api(app: Any) -> Any:
    """Returns the object whose methods answer the host's API, or None where that is off."""
    for path, endpoint in _routes(app):
        owner = getattr(endpoint, "__self__", None)
        if hasattr(owner, "add_api_route") and path.startswith("/sdapi/"):
            return owner
    return None


def _page_login(app: Any) -> Any:
    """Returns what lets only those through that are logged in to the page; None without a page."""
    return dict(_routes(app)).get("/login_check")


def _routes(app: Any) -> list[tuple[str, Any]]:
    return [(getattr(one, "path", ""), getattr(one, "endpoint", None)) for one in app.routes]

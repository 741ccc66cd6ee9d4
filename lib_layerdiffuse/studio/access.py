"""Who may use the studio: whoever sits at this computer, or whoever has its password."""

from __future__ import annotations

import ipaddress
import os

from ..errors import SettingsError

VARIABLE = "LAYERDIFFUSE_STUDIO_AUTH"
"""The environment variable that holds user and password."""


def login(address: str, given: str | None) -> tuple[str, str] | None:
    """Returns the user and the password that the page asks for; None for nothing.

    Args:
        address: Where the page is served.
        given: "user:password", where that does not come from the environment.

    Raises:
        SettingsError: Other computers reach the page, and there is no password; or it is none.
    """
    text = given or os.environ.get(VARIABLE, "")
    if text:
        user, _, password = text.partition(":")
        if user and password:
            return user, password
        raise SettingsError(
            "The studio's login needs a user and a password, with a colon between them.",
            f"Set {VARIABLE} or --auth to something like me:correct-horse.",
        )
    if is_local(address):
        return None
    raise SettingsError(
        f"Other computers would reach the studio on {address} without a password.",
        f"Set {VARIABLE} to user:password, or leave --address out.",
    )


def is_local(address: str) -> bool:
    """Whether an address is reached from this computer alone."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address.lower() == "localhost"

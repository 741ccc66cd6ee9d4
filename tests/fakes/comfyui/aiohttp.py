"""The web server's library, of which only an answer that leads elsewhere is used."""

from __future__ import annotations

from types import SimpleNamespace


class _Found(Exception):
    def __init__(self, location: str) -> None:
        self.location = location


web = SimpleNamespace(HTTPFound=_Found)

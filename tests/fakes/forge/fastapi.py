"""The one name of fastapi that the extension needs."""

from __future__ import annotations

from typing import Any


class HTTPException(Exception):
    def __init__(self, status_code: int, detail: Any = None) -> None:
        super().__init__(status_code, detail)
        self.status_code, self.detail = status_code, detail

"""The names of fastapi that the extension and the stand-in for the WebUI's API need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


class HTTPException(Exception):
    def __init__(self, status_code: int, detail: Any = None) -> None:
        super().__init__(status_code, detail)
        self.status_code, self.detail = status_code, detail


@dataclass
class Depends:
    dependency: Callable[..., Any]


@dataclass
class Route:
    path: str
    endpoint: Callable[..., Any]
    methods: Sequence[str]
    dependencies: Sequence[Depends] = ()


@dataclass
class FastAPI:
    """Routes, and answers as clients get them."""

    routes: list[Any] = field(default_factory=list)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.routes.append(Route(path, endpoint, **options))

    def request(
        self, method: str, path: str, body: Any = None, password: str | None = None
    ) -> tuple[int, Any]:
        """Returns status and answer; what is no HTTPException is a bare 500."""
        for route in self.routes:
            if route.path == path and method in route.methods:
                break
        else:
            return 404, {"detail": "Not Found"}
        try:
            for needed in route.dependencies:
                needed.dependency(password)
            takes_body = bool(inspect.signature(route.endpoint).parameters)
            return 200, route.endpoint(*([body] if takes_body else []))
        except HTTPException as error:
            return error.status_code, {"detail": error.detail}
        except Exception as error:
            return 500, {"error": type(error).__name__, "message": str(error)}

"""Options, state and command line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Options:
    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["data"][name]


opts = Options({"samples_format": "png", "stealth_pnginfo_option": "Alpha", "enable_pnginfo": True})
state = SimpleNamespace(interrupted=False, skipped=False, textinfo=None)
cmd_opts = SimpleNamespace(layerdiffuse_models_dir=None, layerdiffuse_offline=True)

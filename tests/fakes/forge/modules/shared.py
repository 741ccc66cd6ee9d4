"""Options, state and command line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Options:
    """Settings: a value that the user never set is a default only, and not in `data`."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self.data: dict[str, Any] = {}
        self.data_labels = {k: SimpleNamespace(default=v) for k, v in defaults.items()}

    def get_default(self, name: str) -> Any:
        return self.data_labels[name].default

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__["data"]
        return data[name] if name in data else self.get_default(name)


opts = Options({"samples_format": "png", "stealth_pnginfo_option": "Alpha", "enable_pnginfo": True})
state = SimpleNamespace(interrupted=False, skipped=False, textinfo=None)
cmd_opts = SimpleNamespace(layerdiffuse_models_dir=None, layerdiffuse_offline=True)

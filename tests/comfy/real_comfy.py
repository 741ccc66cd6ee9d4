"""A real ComfyUI, as the environment names it.

Environment:
    LAYERDIFFUSE_COMFY_DIR: Its checkout.
    LAYERDIFFUSE_COMFY_PYTHON: Interpreter with its requirements, by default the checkout's
        ``venv/bin/python``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ComfyUI:
    """One checkout."""

    folder: Path
    python: Path

    def missing(self) -> str | None:
        """Returns why it cannot be used, or None."""
        if not (self.folder / "comfy" / "sd.py").exists():
            return f"test in a real ComfyUI: no comfy/sd.py in {self.folder}"
        if not self.python.exists():
            return f"test in a real ComfyUI: no interpreter {self.python}"
        return None


def named() -> ComfyUI | None:
    """Returns the checkout that the environment names, if any."""
    folder = os.environ.get("LAYERDIFFUSE_COMFY_DIR")
    if not folder:
        return None
    path = Path(folder).expanduser().resolve()
    default = path / "venv" / "bin" / "python"
    return ComfyUI(path, Path(os.environ.get("LAYERDIFFUSE_COMFY_PYTHON", default)).expanduser())


def missing_comfy() -> str | None:
    """Returns why there is no checkout to test in, or None."""
    found = named()
    return found.missing() if found else "test in a real ComfyUI: LAYERDIFFUSE_COMFY_DIR not set"

"""Patchers."""

from pathlib import Path

__path__.append(str(Path(__file__).parents[3] / "forge_backend" / "backend" / "patcher"))

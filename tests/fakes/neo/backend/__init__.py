"""A stand-in for Forge Neo's `backend`: what differs from Forge's, whose other modules it has."""

from pathlib import Path

__path__.append(str(Path(__file__).parents[2] / "forge_backend" / "backend"))

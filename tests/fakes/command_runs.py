"""Commands, run here or in another Python, and what they have to print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib_layerdiffuse.cli import main
from lib_layerdiffuse.methods import DECODERS, METHODS

ROOT = Path(__file__).parents[2]
DECODER = DECODERS[METHODS[0].arch].stem
Capture = pytest.CaptureFixture[str]


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=300
    )


def fails(capfd: Capture, *arguments: object) -> str:
    """Runs a command that has to fail, and returns its one line."""
    assert main([str(a) for a in arguments]) == 2
    err = capfd.readouterr().err
    assert re.fullmatch(r"layerdiffuse: [^\n]+\n", err), err
    return err


def done(capfd: Capture, *arguments: object) -> str:
    """Runs a command that has to succeed, and returns what it printed."""
    assert main([str(a) for a in arguments]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

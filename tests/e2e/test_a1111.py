"""The extension in the code of AUTOMATIC1111's WebUI, without its server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from server_process import OFFLINE
from webuis import A1111

CHECK = Path(__file__).with_name("a1111_check.py")


@pytest.mark.skipif(A1111.missing() is not None, reason=str(A1111.missing()))
def test_every_method_in_the_webuis_own_code(tmp_path: Path) -> None:
    """Alone and with a user's LoRA; what it computes, and that it leaves nothing behind."""
    folder = A1111.folder()
    assert folder is not None
    ran = subprocess.run(
        [str(A1111.python()), str(CHECK), str(tmp_path / "data"), str(folder / A1111.hub)],
        cwd=folder,
        env={**os.environ, **OFFLINE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    checked = [line for line in ran.stdout.splitlines() if line.startswith("checked: ")]
    assert len(checked) == 12, ran.stdout

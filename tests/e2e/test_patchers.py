"""The adapter in each WebUI's own patcher, without its server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from server_process import OFFLINE
from webuis import Webui

from lib_layerdiffuse.methods import METHODS

CHECK = Path(__file__).with_name("patcher_check.py")
STAND_IN = Path(__file__).parents[1] / "fakes" / "forge_backend"


def results(python: Path, folder: Path, arguments: tuple[str, ...], to: Path) -> dict:
    """Returns what a UNet gave with each method, after all checks in that WebUI's folder."""
    ran = subprocess.run(
        [str(python), str(CHECK), *arguments],
        cwd=folder,
        env={**os.environ, **OFFLINE, "LAYERDIFFUSE_E2E_RESULTS": str(to)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    checked = [line for line in ran.stdout.splitlines() if line.startswith("checked: ")]
    assert len(checked) >= 5, ran.stdout
    with np.load(to) as found:
        return dict(found)


@pytest.mark.parametrize("persisting", [False, True])
def test_the_webuis_own_patcher(webui: Webui, tmp_path: Path, persisting: bool) -> None:
    """It passes the checks, and each method computes there what it does in the stand-in."""
    if not webui.has_patcher:
        pytest.skip(f"{webui.name} has no patcher")
    if persisting and not webui.persistent_patches:
        pytest.skip(f"{webui.name} cannot let patches persist")
    arguments = (*webui.arguments, *([webui.persistent_patches] if persisting else []))
    folder = webui.folder()
    assert folder is not None
    found = results(webui.python(), folder, arguments, tmp_path / "webui.npz")
    wanted = results(Path(sys.executable), STAND_IN, (), tmp_path / "stand_in.npz")
    assert found.keys() == wanted.keys() == {method.id for method in METHODS}
    for method, one in found.items():
        apart = np.abs(one - wanted[method]).max()
        assert apart <= 1e-5 * np.abs(wanted[method]).max(), f"{method}: {apart}"

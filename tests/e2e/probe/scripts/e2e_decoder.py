"""Test-only WebUI extension: the extension's decoder on an image that nobody has to sample.

``POST /e2e/decoder`` decodes a square of noise of ``side`` pixels in ``views`` views, beside what
the WebUI has loaded, and answers with the process's ``before`` and ``peak`` memory in bytes, the
``seconds`` it took, the ``notes`` for the user and the result's ``shape``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from modules import script_callbacks, scripts, shared
from modules.call_queue import queue_lock


def peak() -> int:
    """Returns the most memory that the process has had since `forget_peak`, in bytes."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in one)
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    """Lets `peak` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def decode(side: int, views: int) -> dict[str, Any]:
    """Decodes noise; see the module."""
    runner = scripts.scripts_txt2img
    ours = next(one for one in runner.alwayson_scripts if one.title() == "LayerDiffuse")
    arch = sys.modules["lib_layerdiffuse.methods"].Arch.SD15
    host = sys.modules["lib_layerdiffuse.hosts.detect"].webui_host()(shared.sd_model)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(4, side // 8, side // 8, generator=generator)
    pixels = torch.rand(3, side, side, generator=generator)
    notes: list[str] = []
    before = psutil.Process().memory_info().rss
    forget_peak()
    start = time.monotonic()
    rgba = sys.modules["lib_layerdiffuse.pipeline"].decode(
        type(ours).session.decoder(arch), host, pixels, latent, views=views, on_retry=notes.append
    )
    return {
        "before": before,
        "peak": peak(),
        "seconds": time.monotonic() - start,
        "notes": notes,
        "shape": list(rgba.shape),
    }


def add_route(demo: Any, app: Any) -> None:
    """Adds the way to it."""

    @app.post("/e2e/decoder")
    def decoder(body: dict[str, int]) -> dict[str, Any]:
        with queue_lock:
            return decode(body["side"], body["views"])


script_callbacks.on_app_started(add_route)

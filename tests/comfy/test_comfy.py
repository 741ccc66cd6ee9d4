"""The adapter in ComfyUI's own code, and beside the standalone host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from host_run import injection
from real_comfy import ComfyUI

from lib_layerdiffuse.methods import METHODS, LayerMethod

HERE = Path(__file__).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def run_file(comfyui: ComfyUI, name: str, to: Path) -> None:
    """Runs a file of checks in ComfyUI's interpreter; all of them have to pass."""
    file = HERE / name
    ran = subprocess.run(
        [str(comfyui.python), str(file), str(comfyui.folder), str(to)],
        env={**os.environ, **OFFLINE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    assert "checked: " in ran.stdout


@pytest.fixture(scope="session")
def calls(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The first UNet call of each method, once all checks have passed there."""
    to = tmp_path_factory.mktemp("comfy") / "calls.npz"
    run_file(comfyui, "comfy_check.py", to)
    with np.load(to) as found:
        return dict(found)


def test_the_nodes_load_and_run(comfyui: ComfyUI, tmp_path: Path) -> None:
    run_file(comfyui, "node_check.py", tmp_path)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.id)
def test_each_method_computes_what_it_does_in_the_standalone_host(
    calls: dict[str, np.ndarray], method: LayerMethod
) -> None:
    pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")
    from shrunk_files import method_tensors
    from tiny_diffusers import host

    gain = 1.0 if method.uses_control else 0.3
    given = injection(method, file=lambda of, seed: method_tensors(of, seed, gain))
    of = {
        key.removeprefix(f"{method.id} "): torch.from_numpy(value)
        for key, value in calls.items()
        if key.startswith(f"{method.id} ")
    }
    more = {"encoder_hidden_states": of["context"]}
    if "y" in of:  # The pooled prompt, and three sizes that diffusers embeds by itself.
        sizes = torch.tensor([64.0, 64.0, 0.0, 0.0, 64.0, 64.0]).expand(len(of["x"]), -1)
        more["added_cond_kwargs"] = {"text_embeds": of["y"][:, :40], "time_ids": sizes}
    standalone = host(method.arch)
    attachment = standalone.attach(given)
    try:
        with torch.no_grad():
            timestep = of["timesteps"][0]
            found = standalone.pipeline.unet(of["x"], timestep, **more).sample
    finally:
        attachment.detach()
    torch.testing.assert_close(found, of["out"], rtol=0, atol=1e-4 * float(of["out"].abs().max()))

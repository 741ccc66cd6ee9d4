"""The same requests make the same latents in every WebUI.

`forge_latents.npz` keeps what WebUI Forge at commit dfdcbab6 made of them on the CPU, with PyTorch
2.13 and the random weights of `random_weights`, for all the others to be held against. Some put
the original back around a mask in another way, so what AUTOMATIC1111's WebUI 1.10.1 made by masks
is kept beside it. Where a method's weights are not merged into the UNet's float16 they are rounded
for the comparison as if they were.

Environment:
    LAYERDIFFUSE_E2E_KEEP_LATENTS: If set, what is made is kept in that file, not compared with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import Client
from flow_jobs import CHECKPOINTS, FROM_PICTURE, SMALL, run
from pictures import glass_ball
from webuis import Webui

from lib_layerdiffuse.methods import METHODS, Arch, find_method

KEPT = Path(__file__).with_name("forge_latents.npz")
ALIKE = {"CLIP_stop_at_last_layers": 1, "randn_source": "CPU", "eta_noise_seed_delta": 0}
"""Settings that the WebUIs have different defaults of."""
CLOSE = 2e-3
"""How far from each other they may be, as a part of the largest: they round differently."""
STEPS = {"steps": 2, "override_settings": ALIKE}
FLOWS = {
    "txt2img": [method.id for method in METHODS],
    "img2img": ["joint_sd15", "fg_attn_sdxl"],
    "inpaint": ["bg_to_fg_sd15", "fg_blended_to_bg_sdxl"],
    "hires": ["fg_attn_sd15", "fg_conv_sdxl"],
}
REQUESTS = [
    *(("plain", arch.name) for arch in Arch),
    *(("plain img2img", arch.name) for arch in Arch),
    *((flow, method_id) for flow, method_ids in FLOWS.items() for method_id in method_ids),
]


def latents(client: Client, flow: str, of: str, folder: Path) -> np.ndarray:
    """Returns the last latents of a request, one flow of a method or of a plain family."""
    options: dict[str, Any] = {"record": folder / "run", "checksums": False, **STEPS}
    if flow.startswith("plain"):
        client.use_checkpoint(CHECKPOINTS[Arch[of]])
        if flow == "plain":
            return client.txt2img(**SMALL | options).latents
        return client.img2img([glass_ball(64)[..., :3]], **FROM_PICTURE | options).latents
    client.use_checkpoint(CHECKPOINTS[find_method(of).arch])
    upscaler = {"hr_upscaler": "None"} if flow == "hires" else {}  # All have this one.
    return run(client, flow, of, folder, **options, **upscaler).latents


@pytest.fixture
def rounded(client: Client, webui: Webui) -> Iterator[None]:
    """Lets a WebUI that merges nothing round as the others do."""
    if webui.has_patcher:
        yield
        return
    client.round_as_merged(True)
    try:
        yield
    finally:
        client.round_as_merged(False)


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize(("flow", "of"), REQUESTS)
def test_latents_are_those_of_forge(
    client: Client, webui: Webui, tmp_path: Path, flow: str, of: str
) -> None:
    made, name = latents(client, flow, of, tmp_path), f"{flow} {of}"
    if flow == "inpaint" and not webui.noises_the_original:
        name += ", original without noise"
    assert np.isfinite(made).all()
    kept = dict(np.load(KEPT)) if KEPT.exists() else {}
    if os.environ.get("LAYERDIFFUSE_E2E_KEEP_LATENTS"):
        np.savez(KEPT, **kept | {name: made})
        return
    if name not in kept:
        pytest.skip("what Forge makes of this is not kept yet")
    apart = np.abs(made - kept[name]).max() / np.abs(kept[name]).max()
    assert apart < CLOSE, f"{apart:.2g} of the largest apart"
    print(f"{name}: {apart:.2g} of the largest apart")

"""Every part of a job fails once: the error is told, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, Result
from fault_places import HOOK_FAULTS
from flow_jobs import CHECKPOINTS, SMALL, plot, run
from layers import assert_same, generate, notes

from lib_layerdiffuse.methods import find_method

Plain = Callable[..., Result]
PLACES = [
    ("joint_sd15", "vae.decode", 0, "txt2img"),
    ("fg_blended_to_bg_sdxl", "vae.encode", 1, "txt2img"),
    ("fg_attn_sd15", "vae.encode", 0, "inpaint"),  # The host's own.
    ("bg_to_fg_sd15", "vae.encode", 1, "img2img"),  # Ours.
    ("bg_to_fg_sd15", "encoder", 0, "img2img"),
    ("fg_attn_sdxl", "encoder", 0, "map"),
    ("fg_attn_sdxl", "patcher.add", 0, "txt2img"),
    ("fg_attn_sdxl", "patcher.merge", 3, "txt2img"),
    ("bg_blended_to_fg_sdxl", "patcher.merge", 3, "inpaint"),
    ("joint_sd15", "memory", 1, "txt2img"),
    ("fg_attn_sd15", "unet", 0, "txt2img"),
    ("fg_attn_sd15", "unet", 1, "map"),
    ("joint_sd15", "unet", 1, "hires"),
    ("bg_to_fg_sd15", "sharing", 5, "txt2img"),
    ("bg_to_fg_sd15", "control", 0, "txt2img"),
    ("joint_sd15", "weights", 0, "txt2img"),
    ("joint_sd15", "decoder", 0, "txt2img"),
    ("joint_sd15", "save", 1, "txt2img"),
    ("joint_sd15", "naming", 0, "txt2img"),
    ("bg_to_fg_sd15", "save", 1, "folder"),
    ("joint_sd15", "conds", 0, "txt2img"),
]
"""A method, what fails, how often it works before, and the flow."""


class Faults:
    """Fails a job, and looks at what it leaves behind."""

    def __init__(self, client: Client, plain: Plain, folder: Path) -> None:
        self.client, self.plain, self.folder = client, plain, folder

    def fail(self, flow: str, method_id: str, *fault: Any, **options: Any) -> ApiError:
        """Checks that a fault is told and that the next plain job is as ever; returns the error."""
        client = self.client
        checkpoint = CHECKPOINTS[find_method(method_id).arch]
        before = self.plain(checkpoint, **SMALL)
        client.use_checkpoint(checkpoint)
        client.txt2img(**SMALL)  # Weights that the last job has merged are merged anew.
        # Options are the more at risk where the host does not restore them.
        job = {"override_settings_restore_afterwards": False, **options}
        with pytest.raises(ApiError) as caught:
            run(client, flow, method_id, self.folder, scripts={"e2e faults": list(fault)}, **job)
        after = client.txt2img(record=self.folder / "after", **SMALL)
        assert_same(before, after)
        for name in ("checksum", "vae", "overridden", "hooks"):
            assert after.run[name] == before.run[name], name
        now = client.options()
        assert now["stealth_pnginfo_option"] == "Alpha"
        assert now["img2img_background_color"] == "#ffffff"
        again = run(client, flow, method_id, self.folder)
        assert again.images, "the method itself is broken"
        return caught.value


@pytest.fixture
def faults(client: Client, plain: Plain, tmp_path: Path, one_view: None) -> Faults:
    return Faults(client, plain, tmp_path)


@pytest.mark.parametrize(("method_id", "place", "after", "flow"), PLACES)
def test_in_the_host(faults: Faults, method_id: str, place: str, after: int, flow: str) -> None:
    more = {"save_images": True} if place in ("save", "naming") else {}
    times = 2 if place == "patcher.merge" else 1  # The host merges once more.
    error = faults.fail(flow, method_id, place, after, "error", times, **more)
    assert "fault asked for" in str(error.body), error


@pytest.mark.parametrize(("script", "hook", "flow"), HOOK_FAULTS)
def test_in_a_hook_of_ours(faults: Faults, script: str, hook: str, flow: str) -> None:
    error = faults.fail(flow, "joint_sd15", f"hook:{script}:{hook}", 0, "error")
    assert "fault asked for" in str(error.body), error


def test_in_a_plots_grid(faults: Faults) -> None:
    client = faults.client
    script = plot(client, x_type="Seed", x_values="1,2")
    error = faults.fail("txt2img", "fg_attn_sd15", "grid", 0, "error", **script)
    assert "fault asked for" in str(error.body), error


@pytest.mark.parametrize(
    ("method_id", "place", "flow", "told"),
    [
        ("fg_attn_sd15", "encoder", "inpaint", "the transparent encoder does not fit"),
        ("fg_attn_sd15", "unet", "txt2img", "out of memory asked for"),
        ("bg_to_fg_sd15", "sharing", "txt2img", "out of memory asked for"),
        ("joint_sd15", "memory", "txt2img", "out of memory asked for"),
    ],
)
def test_out_of_memory(faults: Faults, method_id: str, place: str, flow: str, told: str) -> None:
    error = faults.fail(flow, method_id, place, 0, "memory")
    assert told in str(error.body), error


@pytest.mark.usefixtures("one_view")
def test_out_of_memory_for_the_decoder(client: Client, tmp_path: Path) -> None:
    """So small an image has no smaller parts: it stays RGB, and the other layers are there."""
    client.use_checkpoint(CHECKPOINTS[find_method("joint_sd15").arch])
    usual = generate(client, "joint_sd15", tmp_path / "usual", **SMALL)
    scripts = {"e2e faults": ["decoder", 0, "memory"]}
    made = generate(client, "joint_sd15", tmp_path / "made", scripts=scripts, **SMALL)
    assert [image.shape[2] for image in made.images] == [3, 3, 3]
    for image, other in zip(made.images[1:], usual.images[1:], strict=True):
        np.testing.assert_array_equal(image, other)
    told = made.info["extra_generation_params"]
    assert any("stays RGB" in note for note in told["layerdiffusion_notes"])
    (file,) = told["layerdiffusion_files"]
    assert file.endswith("-fg.safetensors")


@pytest.mark.usefixtures("one_view")
def test_a_full_disk_for_an_image(client: Client, tmp_path: Path) -> None:
    """All layers are answered, and a note says that one is in no file."""
    client.use_checkpoint(CHECKPOINTS[find_method("joint_sd15").arch])
    usual = generate(client, "joint_sd15", tmp_path / "usual", **SMALL)
    scripts = {"e2e faults": ["write", 1, "disk"]}
    options = {"scripts": scripts, "save_images": True, **SMALL}
    made = generate(client, "joint_sd15", tmp_path / "made", **options)
    layers = made.images[-len(usual.images) :]  # A grid that is saved comes before them.
    for image, other in zip(layers, usual.images, strict=True):
        np.testing.assert_array_equal(image, other)
    assert any("could not be saved: No space left" in note for note in notes(made))


@pytest.mark.usefixtures("one_view")
class TestWhatTheHostGetsOver:
    @pytest.mark.parametrize(
        ("method_id", "place"), [("joint_sd15", "vae.decode"), ("fg_attn_sdxl", "patcher.merge")]
    )
    def test_out_of_memory(
        self, client: Client, tmp_path: Path, method_id: str, place: str
    ) -> None:
        """The host decodes in tiles, or merges once more; the layers come all the same."""
        client.use_checkpoint(CHECKPOINTS[find_method(method_id).arch])
        large = {**SMALL, "width": 128, "height": 128}  # The host's tiles overlap by 64 and more.
        usual = generate(client, method_id, tmp_path / "usual", **large)
        scripts = {"e2e faults": [place, 0, "memory"]}
        made = generate(client, method_id, tmp_path / "made", scripts=scripts, **large)
        np.testing.assert_array_equal(made.latents, usual.latents)
        assert [i.shape for i in made.images] == [i.shape for i in usual.images]

    def test_out_of_memory_for_the_posterior(self, client: Client, tmp_path: Path) -> None:
        """It is taken in tiles."""
        method_id = "fg_attn_sd15"
        client.use_checkpoint(CHECKPOINTS[find_method(method_id).arch])
        usual, made = (
            run(client, "img2img", method_id, tmp_path, record=tmp_path / name, scripts=scripts)
            for name, scripts in (
                ("usual", {}),
                ("made", {"e2e faults": ["vae.encode", 1, "memory"]}),
            )
        )
        scale = np.abs(usual.init_latents).max()
        np.testing.assert_allclose(made.init_latents, usual.init_latents, atol=1e-3 * scale)
        assert made.images[0].shape == (64, 64, 4)

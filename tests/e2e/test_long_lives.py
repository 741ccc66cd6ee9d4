"""A server that lives long, and one whose every part fails once: nothing stays behind.

Environment:
    LAYERDIFFUSE_E2E_LIVES: How many jobs the long life has, by default 100.
    LAYERDIFFUSE_E2E_FAMILIES: The families that alternate, by default "SD1.5 SDXL".
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, Result
from layers import assert_same, conditioning, generate, request
from pictures import glass_ball
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod, find_method

LIVES = int(os.environ.get("LAYERDIFFUSE_E2E_LIVES", "100"))
FAMILIES = os.environ.get("LAYERDIFFUSE_E2E_FAMILIES", "SD1.5 SDXL").split()
CHECKPOINTS = {Arch.SD15: SD15, Arch.SDXL: SDXL}
SMALL = {"width": 64, "height": 64, "steps": 1}
HIRES = {
    "enable_hr": True,
    "hr_scale": 2,
    "hr_second_pass_steps": 1,
    "hr_cfg": 7,
    "hr_additional_modules": ["Use same choices"],
    "denoising_strength": 0.7,
}
FLAT = 0.05
"""Share of its memory by which a server may grow in the second half of its life."""

Plain = Callable[..., Result]
pytestmark = pytest.mark.usefixtures("one_view")


class Life:
    """Jobs of every kind in a random but repeatable order."""

    def __init__(self, client: Client, seed: int = 0) -> None:
        self.client, self.chance = client, random.Random(seed)
        self.told: dict[str, int] = {}

    def live(self, method: LayerMethod) -> None:
        """Runs one job of a random kind."""
        kinds = [self.plain, self.simple, self.hires, self.img2img, self.batches, self.stopped]
        kinds += [self.failed, self.refused, self.refused_picture, self.light]
        kind = self.chance.choice(kinds)
        kind(method)
        self.told[kind.__name__] = self.told.get(kind.__name__, 0) + 1

    def plain(self, method: LayerMethod) -> None:
        self.client.txt2img(seed=self.chance.randrange(100), **SMALL)

    def simple(self, method: LayerMethod, **options: Any) -> Result:
        return self.client.txt2img(scripts=request(method.id), **SMALL, **options)

    def light(self, method: LayerMethod) -> None:
        settings = {"weight": self.chance.choice([0, 0.5, 1]), "ending_step": 0.5}
        self.client.txt2img(scripts=request(method.id, **settings), **(SMALL | {"steps": 2}))

    def hires(self, method: LayerMethod) -> None:
        made = self.simple(method, hr_upscaler=self.chance.choice(["Latent", "Lanczos"]), **HIRES)
        assert made.images[0].shape[:2] == (128, 128)

    def img2img(self, method: LayerMethod) -> None:
        size = {k: v for k, v in SMALL.items() if k != "steps"}
        job = {"steps": 2, "denoising_strength": 0.6, **size}
        self.client.img2img([glass_ball(64)], scripts=request(method.id), **job)

    def batches(self, method: LayerMethod) -> None:
        assert len(self.simple(method, n_iter=2).images) == 2 * method.frames

    def stopped(self, method: LayerMethod) -> None:
        stop = self.chance.choice(["skip", "interrupt", "stop_generating"])
        self.simple(method, interrupt_at=0, stop=stop, n_iter=2)

    def failed(self, method: LayerMethod) -> None:
        with pytest.raises(ApiError):
            self.simple(method, fail_at=0)

    def refused(self, method: LayerMethod) -> None:
        other = next(m for m in METHODS if m.arch is not method.arch)
        with pytest.raises(ApiError) as caught:
            self.simple(other)
        assert caught.value.status == 422

    def refused_picture(self, method: LayerMethod) -> None:
        given = {"method": method.id, **dict.fromkeys(conditioning(method), "?")}
        if not method.inputs:
            given["wieght"] = 1
        with pytest.raises(ApiError) as caught:
            self.client.txt2img(scripts={"layerdiffuse": [given]}, **SMALL)
        assert caught.value.status == 422


def test_a_long_life(client: Client, tmp_path: Path) -> None:
    methods = [m for m in METHODS if m.arch.value in FAMILIES]
    families = [arch for arch in Arch if arch.value in FAMILIES]
    life, before, memory = Life(client), {}, []
    for arch in families:
        client.use_checkpoint(CHECKPOINTS[arch])
        before[arch] = client.txt2img(record=tmp_path / f"before {arch.value}", **SMALL)
    for number in range(LIVES):
        if number % 10 == 0:  # To change the checkpoint takes longer than a job.
            arch = families[number // 10 % len(families)]
            client.use_checkpoint(CHECKPOINTS[arch])
        life.live(life.chance.choice([m for m in methods if m.arch is arch]))
        if arch is families[0]:
            memory.append(client.call("GET", "/e2e/memory"))
    for arch in families:
        client.use_checkpoint(CHECKPOINTS[arch])
        after = client.txt2img(record=tmp_path / f"after {arch.value}", **SMALL)
        assert_same(before[arch], after)
        for name in ("checksum", "vae", "overridden", "hooks"):
            assert after.run[name] == before[arch].run[name], name
    half = len(memory) // 2
    first, second = max(memory[:half]), max(memory[half:])
    print(f"{LIVES} jobs: {life.told}; memory {first / 2**30:.2f}, then {second / 2**30:.2f} GiB")
    assert second < first * (1 + FLAT)


PLACES = [
    ("joint_sd15", "vae.decode", 0),
    ("fg_blended_to_bg_sdxl", "vae.encode", 1),
    ("fg_attn_sdxl", "patcher.add", 0),
    ("fg_attn_sdxl", "patcher.merge", 3),
    ("joint_sd15", "memory", 1),
    ("fg_attn_sd15", "unet", 0),
    ("bg_to_fg_sd15", "sharing", 5),
    ("joint_sd15", "decoder", 0),
    ("joint_sd15", "save", 1),
    ("joint_sd15", "conds", 0),
]
HOOKS = [
    "process",
    "before_process_batch",
    "process_batch",
    "process_before_every_sampling",
    "before_hr",
    "post_sample",
    "postprocess_batch",
    "postprocess_batch_list",
    "postprocess",
]


class TestFaults:
    def fails(
        self, client: Client, plain: Plain, folder: Path, method_id: str, *fault: Any, **more: Any
    ) -> ApiError:
        """Checks that a fault is told and that the next plain job is as ever; returns the error."""
        checkpoint = CHECKPOINTS[find_method(method_id).arch]
        before = plain(checkpoint, **SMALL)
        client.use_checkpoint(checkpoint)
        options = {**SMALL, "scripts": {"e2e faults": list(fault)}, **more}
        with pytest.raises(ApiError) as caught:
            generate(client, method_id, folder / "failed", **options)
        after = client.txt2img(record=folder / "after", **SMALL)
        assert_same(before, after)
        for name in ("checksum", "vae", "overridden", "hooks"):
            assert after.run[name] == before.run[name], name
        assert client.options()["stealth_pnginfo_option"] == "Alpha"
        again = generate(client, method_id, folder / "again", **SMALL)
        assert again.images, "the method itself is broken"
        return caught.value

    @pytest.mark.parametrize(("method_id", "place", "after"), PLACES)
    def test_in_the_host(
        self, client: Client, plain: Plain, tmp_path: Path, method_id: str, place: str, after: int
    ) -> None:
        more = {"save_images": True} if place == "save" else {}
        fault = place, after, "error"
        error = self.fails(client, plain, tmp_path, method_id, *fault, **more)
        assert "fault asked for" in str(error.body), error

    @pytest.mark.parametrize("hook", HOOKS)
    def test_in_a_hook_of_ours(
        self, client: Client, plain: Plain, tmp_path: Path, hook: str
    ) -> None:
        more = HIRES | {"hr_upscaler": "Latent"} if hook == "before_hr" else {}
        error = self.fails(client, plain, tmp_path, "joint_sd15", f"hook:{hook}", **more)
        assert "fault asked for" in str(error.body), error

    @pytest.mark.parametrize(
        ("method_id", "place", "told"),
        [
            ("joint_sd15", "decoder", "room for the transparent decoder"),
            ("fg_attn_sd15", "unet", "out of memory asked for"),
            ("bg_to_fg_sd15", "sharing", "out of memory asked for"),
            ("joint_sd15", "memory", "out of memory asked for"),
        ],
    )
    def test_out_of_memory(
        self, client: Client, plain: Plain, tmp_path: Path, method_id: str, place: str, told: str
    ) -> None:
        error = self.fails(client, plain, tmp_path, method_id, place, 0, "memory")
        assert told in str(error.body), error

    @pytest.mark.parametrize(
        ("method_id", "place"), [("joint_sd15", "vae.decode"), ("fg_attn_sdxl", "patcher.merge")]
    )
    def test_out_of_memory_that_the_host_gets_over(
        self, client: Client, tmp_path: Path, method_id: str, place: str
    ) -> None:
        """The host decodes in tiles, or merges once more; the layers come all the same."""
        client.use_checkpoint(CHECKPOINTS[find_method(method_id).arch])
        usual = generate(client, method_id, tmp_path / "usual", **SMALL)
        scripts = {"e2e faults": [place, 0, "memory"]}
        made = generate(client, method_id, tmp_path / "made", scripts=scripts, **SMALL)
        np.testing.assert_array_equal(made.latents, usual.latents)
        assert [i.shape for i in made.images] == [i.shape for i in usual.images]

"""A server that lives long: nothing stays behind, whatever its jobs were and how they ended.

Environment:
    LAYERDIFFUSE_E2E_LIVES: How many jobs the long life has, by default 100.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, Result
from flow_jobs import CHECKPOINTS, FROM_PICTURE, SMALL, UNDER_MASK, mask, run
from layers import assert_same, conditioning, request
from model_cache import families
from pictures import glass_ball
from webuis import Webui

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod
from lib_layerdiffuse.settings.chains import begins_chain

LIVES = int(os.environ.get("LAYERDIFFUSE_E2E_LIVES", "100"))
AT_ONCE = 10
"""Jobs from one change of the checkpoint, which takes longer than a job, to the next."""
FLAT = 0.05
"""Share of its memory by which a server may grow in the second half of its life."""
UNIPC_STEPS = 3
"""The fewest that a second step's sampler takes."""
KINDS = (
    "plain",
    "simple",
    "light",
    "batches",
    "hires",
    "upscale",
    "chain",
    "img2img",
    "inpaint",
    "own_alpha",
    "change_map",
    "folder",
    "stopped",
    "failed",
    "faulty",
    "refused",
    "refused_picture",
)

pytestmark = pytest.mark.usefixtures("one_view")


class Deck:
    """Cards in a random but repeatable order, each as often as any other."""

    def __init__(self, cards: list[Any], chance: random.Random) -> None:
        self.cards, self.chance, self.left = cards, chance, []

    def draw(self) -> Any:
        """Returns the next card."""
        if not self.left:
            self.left = self.chance.sample(self.cards, len(self.cards))
        return self.left.pop()


class Life:
    """Jobs of every kind with every method of a family, which comes and goes."""

    def __init__(self, client: Client, arch: Arch, folder: Path, webui: Webui) -> None:
        self.client, self.arch, self.place, self.webui = client, arch, folder, webui
        self.chance = random.Random(arch.value)
        methods = [method for method in METHODS if method.arch is arch]
        self.chains = [method for method in methods if begins_chain(method)]
        kinds = [kind for kind in KINDS if self.chains or kind != "chain"]
        self.methods, self.kinds = Deck(methods, self.chance), Deck(kinds, self.chance)
        self.lived: Counter[str] = Counter()
        modes = client.call("GET", "/sdapi/v1/latent-upscale-modes")  # One WebUI has none.
        self.upscalers = ["None", *[mode["name"] for mode in modes[:1]]]
        self.memory: list[int] = []
        client.use_checkpoint(CHECKPOINTS[arch])
        self.before = client.txt2img(record=folder / f"{arch.value} before", **SMALL)

    def live(self) -> None:
        """Runs one job."""
        kind, method = self.kinds.draw(), self.methods.draw()
        getattr(self, kind)(method)
        self.lived[kind] += 1
        self.memory.append(self.client.call("GET", "/e2e/memory"))

    def end(self) -> str:
        """Checks what it has left behind; returns its numbers."""
        after = self.client.txt2img(record=self.place / f"{self.arch.value} after", **SMALL)
        assert_same(self.before, after)
        for name in ("checksum", "vae", "overridden", "hooks"):
            assert after.run[name] == self.before.run[name], name
        half = len(self.memory) // 2
        first, second = max(self.memory[:half]), max(self.memory[half:])
        seen = " ".join(f"{memory / 2**30:.2f}" for memory in self.memory)
        told = f"{self.arch.value}: {len(self.memory)} jobs, {dict(self.lived)}; GiB after each: "
        assert second < first * (1 + FLAT), told + seen
        return told + seen

    def run(self, flow: str, method: LayerMethod, **options: Any) -> Result:
        """Runs a method in a flow."""
        return run(self.client, flow, method.id, self.place, **options)

    def plain(self, method: LayerMethod) -> None:
        made = self.client.txt2img(**SMALL)
        np.testing.assert_array_equal(made.images[0], self.before.images[0])

    def simple(self, method: LayerMethod) -> None:
        assert len(self.run("txt2img", method).images) == method.frames

    def light(self, method: LayerMethod) -> None:
        settings = {"weight": self.chance.choice([0, 0.5, 1]), "ending_step": 0.5}
        self.run("txt2img", method, settings=settings, steps=2)

    def batches(self, method: LayerMethod) -> None:
        assert len(self.run("txt2img", method, n_iter=2).images) == 2 * method.frames

    def hires(self, method: LayerMethod) -> None:
        upscaler = self.chance.choice(self.upscalers)
        made = self.run("hires", method, hr_upscaler=upscaler)
        assert made.images[0].shape[:2] == (128, 128)

    def upscale(self, method: LayerMethod) -> None:
        made = self.run("txt2img", method)
        if method.frames > 1:
            self._refused(method, flow="hires", upscale=made.images[0])
        else:
            larger = self.run("hires", method, upscale=made.images[0], hr_upscaler="None")
            assert larger.images[0].shape[:2] == (128, 128)

    def chain(self, method: LayerMethod) -> None:
        first = self.chance.choice(self.chains)
        made = self.run("txt2img", first, settings={"chain": True}, steps=UNIPC_STEPS)
        assert len(made.images) == 3

    def img2img(self, method: LayerMethod) -> None:
        self.run("img2img", method)

    def inpaint(self, method: LayerMethod) -> None:
        if self.chance.random() < 0.5:
            self.run("inpaint", method)
        else:
            self._from_large(method, {"mask": mask(96), **UNDER_MASK, "inpaint_full_res": True})

    def own_alpha(self, method: LayerMethod) -> None:
        source = self.chance.choice(["Visible part", "Transparent part"])
        self.run("img2img", method, settings={"mask_source": source}, **UNDER_MASK)

    def change_map(self, method: LayerMethod) -> None:
        if self.chance.random() < 0.5:
            self.run("map", method)
            return
        scripts = {"differential diffusion": [{"source": "Transparent part", "feather": 2}]}
        self.client.img2img([glass_ball(64)], scripts=scripts, **FROM_PICTURE)

    def folder(self, method: LayerMethod) -> None:
        made = self.run("folder", method)
        assert len(made.images) >= 2 * method.frames

    def stopped(self, method: LayerMethod) -> None:
        stop = self.chance.choice(["skip", "interrupt", "stop_generating"])
        self.run("txt2img", method, interrupt_at=0, stop=stop, n_iter=2)

    def failed(self, method: LayerMethod) -> None:
        with pytest.raises(ApiError):
            self.run("txt2img", method, fail_at=0)

    def faulty(self, method: LayerMethod) -> None:
        places = ["vae.decode", "unet", "conds"]
        if self.webui.has_patcher:  # Elsewhere networks move by themselves.
            places.append("memory")
        place = self.chance.choice(places)
        flow = self.chance.choice(["txt2img", "hires", "inpaint", "map"])
        with pytest.raises(ApiError) as caught:
            self.run(flow, method, scripts={"e2e faults": [place, 0, "error"]})
        assert "fault asked for" in str(caught.value.body)

    def refused(self, method: LayerMethod) -> None:
        self._refused(next(m for m in METHODS if m.arch is not method.arch))

    def refused_picture(self, method: LayerMethod) -> None:
        given = {"method": method.id, **dict.fromkeys(conditioning(method), "?")}
        if not method.inputs:
            given["wieght"] = 1
        with pytest.raises(ApiError) as caught:
            self.client.txt2img(scripts={"layerdiffuse": [given]}, **SMALL)
        assert caught.value.status == 422

    def _refused(self, method: LayerMethod, flow: str = "txt2img", **options: Any) -> None:
        with pytest.raises(ApiError) as caught:
            self.run(flow, method, **options)
        assert caught.value.status == 422

    def _from_large(self, method: LayerMethod, fields: dict[str, Any]) -> None:
        scripts = request(method.id)
        made = self.client.img2img([glass_ball(96)], scripts=scripts, **FROM_PICTURE, **fields)
        assert made.images[0].shape[:2] == (96, 96)


def test_a_long_life(client: Client, tmp_path: Path, webui: Webui) -> None:
    lives = [Life(client, arch, tmp_path, webui) for arch in families()]
    for number in range(0, LIVES, AT_ONCE):
        life = lives[number // AT_ONCE % len(lives)]
        client.use_checkpoint(CHECKPOINTS[life.arch])
        for _ in range(min(AT_ONCE, LIVES - number)):
            life.live()
    for life in lives:
        client.use_checkpoint(CHECKPOINTS[life.arch])
        print(life.end())

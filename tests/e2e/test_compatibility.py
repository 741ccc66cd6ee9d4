"""What may be used together with a method: it is right, or refused with a message.

The table in docs/flows.md says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, Result
from flow_jobs import CHECKPOINTS, control_unit, controlnet
from forge_server import ForgeServer
from layers import assert_same, difference, generate
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import Arch, find_method

Plain = Callable[..., Result]
SMALL = {"width": 64, "height": 64, "steps": 1}
FG, JOINT, TO_FG = "fg_attn_sd15", "joint_sd15", "bg_to_fg_sd15"
KINDS = [FG, JOINT, TO_FG, "fg_attn_sdxl", "fg_to_blended_sdxl"]  # Each way of acting on a UNet.

pytestmark = pytest.mark.usefixtures("one_view")


def choose(client: Client, method_id: str) -> None:
    client.use_checkpoint(CHECKPOINTS[find_method(method_id).arch])


def assert_near(one: Result, other: Result) -> None:
    """Checks for the same latents but for the rounding of sums in another order."""
    scale = np.abs(other.latents).max()
    assert difference(one, other) < 2e-4 * scale, f"{difference(one, other)} of {scale}"


def refused(client: Client, method_id: str, folder: Path, **options: Any) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        generate(client, method_id, folder, **options)
    assert caught.value.status == 422, caught.value
    return caught.value.body["detail"]


def test_a_refiner_is_refused(client: Client, tmp_path: Path) -> None:
    choose(client, FG)
    options = {"refiner_checkpoint": SDXL, "refiner_switch_at": 0.5}
    detail = refused(client, FG, tmp_path, **SMALL, **options)
    assert "refiner" in detail["message"]


@pytest.mark.parametrize("method_id", KINDS)
def test_cfg_1(client: Client, tmp_path: Path, method_id: str) -> None:
    """Without a negative prompt the UNet is called for half of the rows; they come out the same."""
    choose(client, method_id)
    one = generate(client, method_id, tmp_path / "one", cfg_scale=1, **SMALL)
    near_one = generate(client, method_id, tmp_path / "near", cfg_scale=1.000001, **SMALL)
    assert one.run["calls"] == near_one.run["calls"] == 1
    assert_near(one, near_one)
    skipped = {"skip_early_cond": 1.0}
    early = generate(client, method_id, tmp_path / "early", override_settings=skipped, **SMALL)
    np.testing.assert_array_equal(early.latents, one.latents)


def test_some_steps_without_the_negative_prompt(client: Client, tmp_path: Path) -> None:
    choose(client, JOINT)
    job = SMALL | {"steps": 3}
    ngms = {"s_min_uncond": 100, "override_settings": {"s_min_uncond": 100}}
    mixed = generate(client, JOINT, tmp_path / "mixed", **ngms, **job)
    usual = generate(client, JOINT, tmp_path / "usual", **job)
    assert "NGMS" in mixed.infotexts[0]
    assert difference(mixed, usual) > 0.001
    assert mixed.images[0].shape == (64, 64, 4)


@pytest.mark.parametrize("method_id", KINDS)
def test_prompts_composed_by_and(client: Client, tmp_path: Path, method_id: str) -> None:
    """Two equal halves of a prompt are the whole prompt, also with a layer's own before it."""
    choose(client, method_id)
    own = {"fg_additional_prompt": "a cat"} if find_method(method_id).layer_prompts else {}
    whole = generate(client, method_id, tmp_path / "whole", settings=own, **SMALL)
    both = "a glass ball :0.5 AND a glass ball :0.5"
    halves = generate(client, method_id, tmp_path / "halves", settings=own, prompt=both, **SMALL)
    assert_near(halves, whole)
    other = "a glass ball :0.5 AND a lake :0.5"
    mixed = generate(client, method_id, tmp_path / "mixed", settings=own, prompt=other, **SMALL)
    assert difference(mixed, whole) > 0.001


def test_and_in_a_layers_own_prompt_is_refused(client: Client, tmp_path: Path) -> None:
    choose(client, JOINT)
    settings = {"fg_additional_prompt": "a cat AND a dog"}
    detail = refused(client, JOINT, tmp_path, settings=settings, **SMALL)
    assert detail["field"] == "fg_additional_prompt"


class TestRegions:
    def run(self, client: Client, method_id: str, folder: Path, kind: str, prompt: str) -> Result:
        scripts = {"e2e regions": [kind]}
        return generate(client, method_id, folder, scripts=scripts, prompt=prompt, **SMALL)

    @pytest.mark.parametrize("method_id", [JOINT, TO_FG, "fg_to_blended_sdxl"])
    def test_by_masks(self, client: Client, tmp_path: Path, method_id: str) -> None:
        choose(client, method_id)
        whole = self.run(client, method_id, tmp_path / "whole", "", "a glass ball")
        same = "a glass ball :0.5 AND a glass ball :0.5"
        assert_near(self.run(client, method_id, tmp_path / "same", "mask", same), whole)
        other = "a glass ball :0.5 AND a lake :0.5"
        halves = self.run(client, method_id, tmp_path / "halves", "mask", other)
        left, right = (abs(halves.latents - whole.latents)[..., part] for part in (S_LEFT, S_RIGHT))
        assert left.max() < 2e-4 * np.abs(whole.latents).max()
        assert right.max() > 0.001

    @pytest.mark.parametrize("method_id", [TO_FG, "fg_to_blended_sdxl"])
    def test_by_areas_is_refused_where_the_whole_picture_is_needed(
        self, client: Client, plain: Plain, tmp_path: Path, method_id: str
    ) -> None:
        checkpoint = CHECKPOINTS[find_method(method_id).arch]
        before = plain(checkpoint, **SMALL)
        choose(client, method_id)
        with pytest.raises(ApiError) as caught:
            self.run(client, method_id, tmp_path / "run", "area", "a ball AND a lake")
        assert "An extension" in str(caught.value.body), caught.value
        assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))

    def test_by_areas_works_for_sets_without_a_picture(
        self, client: Client, tmp_path: Path
    ) -> None:
        choose(client, JOINT)
        same = "a glass ball :0.5 AND a glass ball :0.5"
        made = self.run(client, JOINT, tmp_path / "run", "area", same)
        assert [image.shape[2] for image in made.images] == [4, 3, 3]


S_LEFT, S_RIGHT = slice(0, 4), slice(4, 8)


@pytest.mark.parametrize("method_id", [FG, "fg_attn_sdxl", "fg_to_blended_sdxl"])
def test_token_merging_with_one_layer(
    client: Client, plain: Plain, tmp_path: Path, method_id: str
) -> None:
    checkpoint = CHECKPOINTS[find_method(method_id).arch]
    before = plain(checkpoint, **SMALL)
    choose(client, method_id)
    merging = {"override_settings": {"token_merging_ratio": 0.5}}
    usual = generate(client, method_id, tmp_path / "usual", **SMALL)
    made = generate(client, method_id, tmp_path / "made", **merging, **SMALL)
    assert "Token merging ratio: 0.5" in made.infotexts[0]
    if find_method(method_id).arch is Arch.SD15:
        assert difference(made, usual) > 0.001
    else:  # The host merges at a level where SDXL attends to nothing.
        assert_same(made, usual)
    off = {"settings": {"weight": 0}}
    idle = generate(client, method_id, tmp_path / "idle", **off, **merging, **SMALL)
    assert difference(made, idle) > 0.001, "the method was lost"
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


@pytest.mark.parametrize("method_id", [JOINT, TO_FG])
def test_token_merging_is_refused_for_sets(client: Client, tmp_path: Path, method_id: str) -> None:
    choose(client, method_id)
    merging = {"override_settings": {"token_merging_ratio": 0.5}}
    assert "token merging" in refused(client, method_id, tmp_path, **merging, **SMALL)["message"]


def test_comments_in_prompts(client: Client, tmp_path: Path) -> None:
    choose(client, JOINT)

    def made(name: str, prompt: str, own: str) -> Result:
        settings = {"fg_additional_prompt": own}
        return generate(client, JOINT, tmp_path / name, prompt=prompt, settings=settings, **SMALL)

    without = made("without", "a ball", "a cat")
    assert_same(made("comment", "a ball # in fog", "a cat # AND <lora:x:1>"), without)
    assert difference(made("other", "a ball", "a cat in fog"), without) > 0.001


@pytest.mark.parametrize("method_id", [JOINT, TO_FG])
def test_a_users_lora(client: Client, plain: Plain, tmp_path: Path, method_id: str) -> None:
    before = plain(SD15, **SMALL)
    choose(client, method_id)
    prompt = "a glass ball <lora:random_lora:1>"
    alone = client.txt2img(prompt=prompt, record=tmp_path / "alone", **SMALL)
    without = generate(client, method_id, tmp_path / "without", **SMALL)
    made = generate(client, method_id, tmp_path / "made", prompt=prompt, **SMALL)
    assert difference(made, without) > 0.05, "the LoRA was lost under the method"
    again = client.txt2img(prompt=prompt, record=tmp_path / "again", **SMALL)
    assert_same(alone, again)
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


class TestControlNet:
    @pytest.fixture(scope="class")
    def model(self, forge: ForgeServer) -> str:
        """Returns the name of a ControlNet that the server has."""
        return controlnet(Client(forge.url), Arch.SD15)

    @pytest.mark.parametrize("method_id", [FG, JOINT, TO_FG])
    def test_a_unit_acts_beside_the_method(
        self, client: Client, plain: Plain, tmp_path: Path, model: str, method_id: str
    ) -> None:
        method = find_method(method_id)
        before = plain(SD15, **SMALL)
        choose(client, method_id)
        without = generate(client, method_id, tmp_path / "without", **SMALL)
        unit = {"scripts": control_unit(model)}
        made = generate(client, method_id, tmp_path / "made", **unit, **SMALL)
        assert difference(made, without) > 0.01, "the unit was lost"
        off = {"settings": {"weight": 0}}
        idle = generate(client, method_id, tmp_path / "idle", **off, **unit, **SMALL)
        alone = client.txt2img(
            scripts=control_unit(model),
            record=tmp_path / "alone",
            batch_size=method.frames,
            **SMALL,
        )
        # The unit saw the number of sets, so its hint's rows are computed once and not for each.
        assert difference(idle, alone) < 1e-4 * np.abs(alone.latents).max()
        assert difference(made, alone) > 0.01, "the method was lost"
        two = generate(client, method_id, tmp_path / "two", batch_size=2, **unit, **SMALL)
        apart = np.abs(two.latents[: method.frames] - made.latents).max()
        assert apart < 1e-3 * np.abs(made.latents).max()
        assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))

    def test_reference_is_refused_where_it_takes_the_attentions_place(
        self, client: Client, tmp_path: Path
    ) -> None:
        choose(client, JOINT)
        unit = {"scripts": control_unit("None", "reference_only")}
        detail = refused(client, JOINT, tmp_path, **unit, **SMALL)
        assert "replace the attention" in detail["message"]

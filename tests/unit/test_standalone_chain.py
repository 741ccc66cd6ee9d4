"""Two steps in one go: what each step is given, and what it makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_family import load_anew

from lib_layerdiffuse.errors import MissingLayerError, SettingsError
from lib_layerdiffuse.imaging.images import from_u8
from lib_layerdiffuse.methods import Arch, Layer, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone import run as running
from lib_layerdiffuse.standalone.defaults import defaults
from lib_layerdiffuse.standalone.generation import Generation, LayerImage
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.standalone.two_steps import Direction, SecondStep, run_chain

GIVEN = np.full((16, 16, 4), 0.25, np.float32)


HOST = object()
REFUSED = "a <lora:x:1>"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """Puts a stand-in in the place of `run`, and returns the jobs that it is given."""
    seen: list[Generation] = []

    def run(job, session, host, *, on_progress=None):
        seen.append(job)
        if on_progress is not None:
            on_progress("sampling", 1, 1)
        pictures = []
        for index in range(job.sets):
            seed = job.seed + index
            pixels = np.full((8, 8, 3), seed, np.uint8)
            (layer,) = job.settings.method.outputs
            pictures.append(LayerImage(layer, index, seed, pixels, None, job.prompt))
        return pictures

    monkeypatch.setattr(running, "run", run)
    return seen


def job(direction: Direction, **more: object) -> Generation:
    given = {"method": direction.methods[0], f"{direction.given.value}_image": GIVEN}
    settings = LayerSettings.from_args([given | more.pop("settings", {})])
    return Generation(settings, **({"prompt": "good", "seed": 40, "sets": 2} | more))


@pytest.mark.parametrize("direction", Direction)
def test_the_second_method_reads_what_the_first_makes(direction):
    first, second = direction.methods
    assert first.outputs == (Layer.BLENDED,)
    assert second.inputs == (direction.given, Layer.BLENDED)
    assert first.inputs == (direction.given,)
    assert {direction.given, *second.outputs} == {Layer.FG, Layer.BG}
    assert first.arch is second.arch is Arch.SDXL


@pytest.mark.parametrize("direction", Direction)
def test_each_blended_picture_gets_its_second_step(ran, direction):
    first, second = run_chain(job(direction), None, HOST)
    before, after = direction.methods
    assert [one.settings.method for one in ran] == [before, after, after]
    assert [one.seed for one in ran] == [40, 40, 41]
    for one, blended in zip(ran[1:], first.images, strict=True):
        assert one.sets == 1
        np.testing.assert_array_equal(one.settings.blended_image, from_u8(blended.image))
        assert one.settings.image(direction.given) is ran[0].settings.image(direction.given)
    assert [(p.layer, p.set_index, p.seed) for p in second.images] == [
        (*after.outputs, 0, 40),
        (*after.outputs, 1, 41),
    ]


def test_the_first_step_is_given_out_before_the_second_runs(ran):
    steps = run_chain(job(Direction.BG_TO_FG), None, HOST)
    next(steps)
    assert len(ran) == 1


def test_the_authors_choices_for_the_second_step(ran):
    list(run_chain(job(Direction.BG_TO_FG, sets=1), None, HOST))
    list(run_chain(job(Direction.FG_TO_BG, sets=1), None, HOST))
    chosen = [(one.sampler, one.settings.stop_at) for one in ran]
    sde = "DPM++ 2M SDE Karras"
    assert chosen == [(sde, 1.0), ("Euler a", 1.0), (sde, 1.0), ("UniPC", 0.5)]


def test_the_users_choices_for_the_second_step(ran):
    second = SecondStep("Heun", 0.75)
    list(run_chain(job(Direction.FG_TO_BG, sets=1), None, HOST, second=second))
    assert (ran[1].sampler, ran[1].settings.stop_at) == ("Heun", 0.75)
    assert (ran[0].sampler, ran[0].settings.stop_at) == ("DPM++ 2M SDE Karras", 1.0)


def test_each_layers_prompt_is_put_before_the_main_one(ran):
    own = {"blended_prompt": "dog in a room", "bg_prompt": "room", "blended_negative_prompt": "cat"}
    given = job(Direction.FG_TO_BG, sets=1, settings=own, negative_prompt="bad")
    list(run_chain(given, None, HOST))
    assert [(one.prompt, one.negative_prompt) for one in ran] == [
        ("dog in a room, good", "cat, bad"),
        ("room, good", "bad"),
    ]
    assert not any(one.settings.prompt(layer) for one in ran for layer in Layer)


def test_progress_names_the_step(ran):
    told: list[str] = []
    given = job(Direction.BG_TO_FG, sets=1)
    on_progress = lambda stage, done, total: told.append(stage) or True  # noqa: E731
    list(run_chain(given, None, HOST, on_progress=on_progress))
    assert told == ["1 of 2: sampling", "2 of 2: sampling"]


def test_what_the_second_step_would_refuse_is_said_before_the_first(ran):
    one = job(Direction.BG_TO_FG)
    with pytest.raises(SettingsError, match="no sampler called"):
        next(run_chain(one, None, HOST, second=SecondStep("None such")))
    own = job(Direction.BG_TO_FG, settings={"fg_prompt": REFUSED})
    with pytest.raises(SettingsError, match="Tags of other networks") as caught:
        next(run_chain(own, None, HOST))
    assert caught.value.field == "fg_prompt"
    assert ran == []


def test_a_layers_prompt_is_put_before_each_of_several(ran):
    list(
        run_chain(
            job(Direction.BG_TO_FG, prompt="a AND b", settings={"fg_prompt": "x"}), None, HOST
        )
    )
    assert [one.prompt for one in ran] == ["a AND b"] + ["x, a AND x, b"] * 2


def test_what_begins_no_chain(ran):
    settings = LayerSettings.from_args([{"method": "fg_attn_sdxl"}])
    with pytest.raises(SettingsError, match="has no other layer to extract"):
        list(run_chain(Generation(settings, "x"), None, HOST))
    given = job(Direction.BG_TO_FG)
    missing = replace(given, settings=replace(given.settings, bg_image=None))
    with pytest.raises(MissingLayerError, match="background"):
        list(run_chain(missing, None, HOST))
    assert ran == []


def test_the_tiny_family_has_its_own_size_and_guidance_only():
    for method in map(find_method, ("fg_attn_sd15", "bg_blended_to_fg_sdxl")):
        large, tiny = defaults(method, tiny=False), defaults(method, tiny=True)
        assert large.side == {Arch.SD15: 512, Arch.SDXL: 1024}[method.arch]
        assert tiny.side < 512
        assert tiny.cfg < large.cfg
        assert replace(tiny, side=large.side, cfg=large.cfg) == large


def test_one_checkpoint_stays_loaded(family, monkeypatch):
    load_anew(monkeypatch)

    def refuse():
        raise AssertionError("the ordinary files are not needed")

    models = Models(refuse)
    host, session = models.open(ModelChoice(), Arch.SDXL)
    assert models.open(ModelChoice(), Arch.SDXL) == (host, session)
    assert host.arch() is Arch.SDXL
    other, same = models.open(ModelChoice(), Arch.SD15)
    assert other.arch() is Arch.SD15
    assert same is session
    with pytest.raises(AssertionError):
        models.open(ModelChoice(host.checkpoint), Arch.SDXL)

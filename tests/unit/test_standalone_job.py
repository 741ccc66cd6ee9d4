"""A job without a WebUI: from settings to layers, with every method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from kept_session import KeptSession
from random_family import see_one_view
from thinned import thinned
from tiny_diffusers import host, layer_folder
from tiny_weights import CountingStore

from lib_layerdiffuse.codec.transparent import adjusted_latent
from lib_layerdiffuse.errors import (
    ArchMismatchError,
    BatchSizeError,
    ImageSizeError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.hosts.diffusers import Sampling, SamplingStopped
from lib_layerdiffuse.imaging.images import ResizeMode, fit, flatten, pad_colours
from lib_layerdiffuse.methods import METHODS, Arch, Layer, LayerMethod, find_method
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone.defaults import check_seeds, draw_seed
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.run import DECODING, SAMPLING, run
from lib_layerdiffuse.weights.store import WeightStore

SOME = pytest.mark.parametrize("method", thinned(METHODS, 5), ids=lambda method: method.id)
ALL = pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda method: method.id)
JOINT, TO_FG = find_method("joint_sd15"), find_method("bg_to_fg_sd15")
ONE, BLENDED = find_method("fg_conv_sdxl"), find_method("bg_to_blended_sdxl")


@pytest.fixture
def session() -> Session:
    return KeptSession(WeightStore(layer_folder(), offline=True))


@pytest.fixture
def new_session() -> Session:
    return Session(CountingStore(layer_folder()))


def picture(seed: int, channels: int = 4) -> np.ndarray:
    rgba = np.random.default_rng(seed).random((40, 56, channels), dtype=np.float32)
    rgba[:, :20, 3:] = 0
    return rgba


def job_of(method: LayerMethod, **more: object) -> Generation:
    pictures = {"fg_image": picture(1), "bg_image": picture(2, 3), "blended_image": picture(3, 3)}
    settings = LayerSettings(method=method, **(pictures | more.pop("settings", {})))
    sizes = {"width": 64, "height": 72, "steps": 2, "sampler": "Euler a", "seed": 100}
    return Generation(settings, "a cat", **(sizes | more))


def sampled(monkeypatch: pytest.MonkeyPatch, job: Generation, session: Session) -> list[Sampling]:
    """Runs a job and returns what the host was asked to sample."""
    one, asked = host(job.settings.method.arch), []
    sample = one.sample

    def noting(sampling: Sampling) -> torch.Tensor:
        asked.append(sampling)
        return sample(sampling)

    monkeypatch.setattr(one, "sample", noting)
    run(job, session, one)
    return asked


class TestEveryMethod:
    @pytest.fixture(autouse=True)
    def _one_view(self, monkeypatch):
        see_one_view(monkeypatch)

    @ALL
    def test_its_layers_in_order(self, method, session):
        layers = run(job_of(method, sets=2), session, host(method.arch))

        assert [made.layer for made in layers] == [*method.outputs, *method.outputs]
        assert [made.set_index for made in layers] == [0] * method.frames + [1] * method.frames
        assert [made.seed for made in layers] == [100 + n for n in range(2 * method.frames)]
        for made in layers:
            transparent = made.layer is Layer.FG
            assert made.image.shape == (72, 64, 4 if transparent else 3)
            assert made.image.dtype == np.uint8
            assert made.image.std() > 1
            assert (made.before_decode is not None) is transparent
            if made.before_decode is not None:
                assert made.before_decode.shape == (72, 64, 3)

    @SOME
    def test_its_strength_and_its_pictures_matter(self, method, session):
        def pictures(**settings: object) -> list[np.ndarray]:
            job = job_of(method, settings=settings)
            return [made.image for made in run(job, session, host(method.arch))]

        first = pictures()
        assert all(map(np.array_equal, first, pictures()))
        changes: list[dict[str, object]] = [{"strength": 0.0}, {"strength": 2.0}]
        changes += [{f"{layer.value}_image": picture(9)} for layer in method.inputs]
        for change in changes:
            assert not all(map(np.array_equal, first, pictures(**change))), change

    @SOME
    def test_from_a_picture(self, method, session):
        kept = run(job_of(method, init=picture(4), denoise=0.0), session, host(method.arch))
        other = run(job_of(method, init=picture(5), denoise=0.0), session, host(method.arch))
        assert not np.array_equal(kept[0].image, other[0].image)

    @ALL
    def test_the_text_says_what_it_is(self, method, session):
        made = run(job_of(method, negative_prompt="dog"), session, host(method.arch))[0]
        assert made.infotext.startswith("a cat\nNegative prompt: dog\nSteps: 2, Sampler: Euler a")
        for part in (f"Seed: {made.seed}", "Size: 64x72", method.label, "enabled: True"):
            assert part in made.infotext
        assert host(method.arch).model_hash in made.infotext


class TestRows:
    def test_rows_are_frames_with_their_own_prompts_and_seeds(self, monkeypatch, session):
        own = {"fg_prompt": "glass", "bg_negative_prompt": "book"}
        job = job_of(JOINT, settings=own, sets=2, negative_prompt="red")
        asked = sampled(monkeypatch, job, session)
        assert [sampling.seeds for sampling in asked] == [[100, 101, 102], [103, 104, 105]]
        for sampling in asked:
            assert sampling.prompts == ["glass, a cat", "a cat", "a cat"]
            assert sampling.negative_prompts == ["red", "book, red", "red"]

    def test_a_set_does_not_depend_on_the_others(self, session):
        both = run(job_of(JOINT, sets=2), session, host(Arch.SD15))
        second = run(job_of(JOINT, seed=103), session, host(Arch.SD15))
        for a, b in zip(both[3:], second, strict=True):
            assert a.seed == b.seed
            np.testing.assert_allclose(a.image, b.image, atol=1)

    @pytest.mark.parametrize("method", [TO_FG, JOINT], ids=lambda method: method.id)
    def test_a_transparent_picture_begins_the_foreground_and_flat_ones_the_rest(
        self, monkeypatch, session, method
    ):
        rgba = np.resize(picture(4), (72, 64, 4))
        job = job_of(method, init=rgba, denoise=0.5, settings={"resize_mode": ResizeMode.STRETCH})
        (sampling,) = sampled(monkeypatch, job, session)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0)

        bg = fit(picture(2, 3), 64, 72, ResizeMode.STRETCH)
        alpha = rgba[..., 3:]
        over_bg = rgba[..., :3] * alpha + bg * (1 - alpha)
        flat = {
            Layer.BG: flatten(rgba),
            Layer.BLENDED: over_bg if method is TO_FG else flatten(rgba),
        }
        mean, std = host(Arch.SD15).posterior(tensor(flatten(rgba)))
        offset = session.encoder(Arch.SD15).offset(tensor(pad_colours(rgba)))
        rows = [adjusted_latent(mean, std, offset)]
        rows += [host(Arch.SD15).posterior(tensor(flat[x]))[0] for x in method.outputs[1:]]
        torch.testing.assert_close(sampling.init, torch.cat(rows) * 0.18215)
        assert sampling.denoise == 0.5

    def test_rgb_is_opaque(self, monkeypatch, session):
        rgb = picture(4, 3)
        rgba = np.concatenate([rgb, np.ones_like(rgb[..., :1])], axis=2)
        begun = [
            sampled(monkeypatch, job_of(ONE, init=init), session)[0].init for init in (rgb, rgba)
        ]
        assert torch.equal(*begun)

    def test_a_method_without_foreground_needs_no_codec(self, new_session):
        run(job_of(BLENDED, init=picture(4)), new_session, host(Arch.SDXL))
        assert new_session.store.loaded == [BLENDED.weights.stem]


class TestProgress:
    def test_stages(self, session):
        seen = []
        run(
            job_of(TO_FG, sets=2),
            session,
            host(Arch.SD15),
            on_progress=lambda *s: not seen.append(s),
        )
        assert [s for s in seen if s[0] == SAMPLING] == [(SAMPLING, n, 4) for n in range(1, 5)]
        assert [s for s in seen if s[0] == DECODING] == [(DECODING, n, 16) for n in range(1, 17)]

    def test_stopping(self, session):
        seen = []

        def on_progress(*step: object) -> bool:
            seen.append(step)
            return False

        with pytest.raises(SamplingStopped):
            run(job_of(TO_FG, sets=2), session, host(Arch.SD15), on_progress=on_progress)
        assert len(seen) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"width": 60}, ImageSizeError, "60×72"),
            ({"height": 0}, ImageSizeError, "from 64 up"),
            ({"sets": 0}, BatchSizeError, "at least one set"),
            ({"steps": 0}, SettingsError, "Steps must be at least 1, but is 0"),
            ({"seed": -1}, SettingsError, "between 0 and 4294967295, but one is -1"),
            ({"seed": 2**32 - 4, "sets": 3}, SettingsError, "but one is 4294967297"),
            ({"cfg": float("nan")}, SettingsError, "CFG"),
            ({"denoise": 1.5}, SettingsError, "Denoising strength must be between 0 and 1"),
            ({"sampler": "Eulr"}, SettingsError, "Euler"),
            ({"init": np.zeros((4, 4, 7))}, SettingsError, "RGBA"),
            ({"settings": {"bg_image": None}}, MissingLayerError, "background"),
            ({"settings": {"bg_image": np.zeros((4, 4), int)}}, SettingsError, "image"),
            ({"prompt": "<lora:x:1>"}, SettingsError, "LoRA"),
        ],
    )
    def test_before_sampling(self, session, change, error, message):
        sizes = {name: value for name, value in change.items() if name != "prompt"}
        job = replace(job_of(TO_FG, **sizes), prompt=change.get("prompt", "a cat"))
        seen = []
        with pytest.raises(error, match=message):
            run(job, session, host(Arch.SD15), on_progress=lambda *s: not seen.append(s))
        assert not seen

    def test_a_checkpoint_of_the_other_family(self, new_session):
        with pytest.raises(ArchMismatchError, match="SDXL checkpoint"):
            run(job_of(ONE), new_session, host(Arch.SD15))
        assert not new_session.store.loaded

    def test_missing_weights(self, tmp_path):
        with pytest.raises(WeightsNotFoundError):
            run(job_of(ONE), Session(CountingStore(tmp_path)), host(Arch.SDXL))


@pytest.mark.parametrize("layers", [1, 3, 192])
def test_a_new_seed_leaves_room_for_the_layers_after_the_first(monkeypatch, layers):
    drawn = []
    monkeypatch.setattr(
        "lib_layerdiffuse.standalone.defaults.random.randint",
        lambda low, high: drawn.append((low, high)) or high,
    )
    first = draw_seed(layers)
    check_seeds(first, layers)
    assert drawn == [(0, first)]
    with pytest.raises(SettingsError, match="between 0 and 4294967295"):
        check_seeds(first + 1, layers)

from __future__ import annotations

import numpy as np
import pytest

from lib_layerdiffuse.imaging.coverage import Verdict, measure
from lib_layerdiffuse.methods import METHODS, Arch
from lib_layerdiffuse.settings.advice import advice
from lib_layerdiffuse.settings.layer_settings import LayerSettings

SIZE = 256
Y, X = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1  # -1 to 1
R = np.hypot(X, Y)


def rgba(alpha):
    alpha_u8 = np.broadcast_to(np.asarray(alpha) * 255, (SIZE, SIZE)).round().astype(np.uint8)
    return np.dstack([np.full((SIZE, SIZE, 3), 90, np.uint8), alpha_u8])


def verdict(alpha):
    return measure(rgba(alpha)).verdict


def noise(low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (SIZE, SIZE))


@pytest.mark.parametrize(
    "alpha",
    [
        R < 0.6,
        R < 1,  # It touches all four sides: only the corners are clear.
        np.where(R < 0.7, 0.4, 0),  # Glass.
        np.clip(0.3 - R, 0, 1),  # A glow.
        np.full_like(R, 0.6),  # A veil.
        noise(0, 1),
        R < 0.05,  # A speck.
        (R < 0.9) | (Y > 0),  # A close portrait, cut at the bottom.
        (np.abs(X) > 0.6) | (np.abs(Y) > 0.6),  # A frame.
    ],
    ids=["disc", "full", "glass", "glow", "veil", "noise", "speck", "portrait", "frame"],
)
def test_transparent_pictures(alpha):
    assert verdict(alpha) is Verdict.TRANSPARENT


@pytest.mark.parametrize(
    "alpha",
    [
        1,
        0.97,
        noise(0.91, 1),
        np.where(noise(0, 1) < 0.01, 0, 1),
        np.where(R < 0.3, 0, 1),
        np.where(R < 0.3, 0.5, 0.96),
    ],
    ids=["opaque", "nearly", "noise", "specks", "hole", "window"],
)
def test_opaque_pictures(alpha):
    assert verdict(alpha) is Verdict.OPAQUE


@pytest.mark.parametrize("alpha", [0, 0.03, noise(0, 0.04), np.where(noise(0, 1) < 0.0005, 1, 0)])
def test_empty_pictures(alpha):
    assert verdict(alpha) is Verdict.EMPTY


def test_the_measures():
    found = measure(rgba(np.where(X < 0, 1, 0)))
    assert found.mean == pytest.approx(0.5, abs=0.01)
    assert found.visible == found.see_through == pytest.approx(0.5, abs=0.01)
    assert found.border == pytest.approx(0.5, abs=0.01)
    frame = measure(rgba((np.abs(X) > 0.9) | (np.abs(Y) > 0.9)))
    assert (frame.border, frame.mean < 0.25) == (1, True)


def test_what_is_barely_there_is_haze():
    found = measure(rgba(np.where(X < -0.5, 0.02, np.where(X < 0, 0.5, np.where(X < 0.5, 0, 1)))))
    assert found.haze == found.soft == pytest.approx(0.25, abs=0.01)
    assert found.soft < found.visible == pytest.approx(0.5, abs=0.01)


def test_a_report_has_every_number_and_the_verdict():
    told = measure(rgba(R < 0.6)).as_dict()
    assert told.pop("verdict") == "transparent"
    assert set(told) == {"mean", "visible", "see_through", "border", "soft", "haze"}
    assert (told["border"], told["soft"], told["haze"]) == (0, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (64, 8)])
def test_small_pictures_can_be_measured(size):
    for alpha, wanted in ((255, Verdict.OPAQUE), (0, Verdict.EMPTY), (128, Verdict.TRANSPARENT)):
        picture = np.full((*size, 4), alpha, np.uint8)
        assert measure(picture).verdict is wanted


def test_colours_do_not_matter():
    picture = rgba(R < 0.6)
    found = measure(picture)
    picture[..., :3] = 0
    assert measure(picture) == found


class TestAdvice:
    @staticmethod
    def settings(arch=Arch.SDXL, **more):
        method = next(m for m in METHODS if m.arch is arch and m.decodes)
        return LayerSettings(method=method, **more)

    def test_a_transparent_picture_needs_none(self):
        assert advice(Verdict.TRANSPARENT, self.settings()) is None

    def test_sdxl_is_told_of_checkpoints(self):
        for arch, told in ((Arch.SDXL, True), (Arch.SD15, False)):
            text = advice(Verdict.OPAQUE, self.settings(arch))
            assert "gray background" in text
            assert ("Illustrious" in text) is told
            assert "Set weight" not in text

    @pytest.mark.parametrize("weaker", [{"strength": 0.5}, {"stop_at": 0.9}])
    def test_a_weaker_method_is_told(self, weaker):
        assert "Set weight and stop-at to 1" in advice(Verdict.OPAQUE, self.settings(**weaker))

    @pytest.mark.parametrize("off", [{"strength": 0.0}, {"stop_at": 0.0}])
    def test_without_the_method_only_that_is_told(self, off):
        for found in (Verdict.OPAQUE, Verdict.EMPTY):
            text = advice(found, self.settings(**off))
            assert text == f"a foreground came out {found.value}, since weight or stop-at is 0."

    def test_an_empty_picture_is_told(self):
        assert "empty" in advice(Verdict.EMPTY, self.settings())

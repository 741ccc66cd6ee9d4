import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from thinned import thinned

from lib_layerdiffuse.tiny import scenes

SOLID = [kind for kind in scenes.KINDS if not kind.soft]
SOFT = [kind for kind in scenes.KINDS if kind.soft]


def generator(*seed):
    return np.random.default_rng(seed)


def digest(*seeds):
    pictures = hashlib.sha256()
    for seed in seeds:
        scene = scenes.scene(seed)
        pictures.update(scene.caption.encode() + scene.fg.tobytes() + scene.bg.tobytes())
    return pictures.hexdigest()


@pytest.fixture(scope="module")
def truths():
    """120 scenes, some of them of pairs that are held out."""
    return [scenes.scene(seed, unseen=seed % 4 == 0) for seed in range(120)]


@pytest.mark.slow  # It starts interpreters.
def test_a_seed_gives_one_scene_in_every_process():
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest'](1, 2, 3))"
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests" / "fakes")))
    env = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": path}
    other = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    )
    assert digest(1, 2, 3) == digest(1, 2, 3) == other.stdout.strip()
    assert digest(1) != digest(2)


def test_held_out_scenes_differ_from_those_of_the_same_seed():
    assert scenes.scene(5).caption != scenes.scene(5, unseen=True).caption


@pytest.mark.parametrize("size", [64, 128, 160])
def test_pictures_are_float32_of_the_size_in_0_to_1(size):
    scene = scenes.scene(3, size)
    for picture, channels in ((scene.fg, 4), (scene.bg, 3), (scene.blended, 3)):
        assert picture.shape == (size, size, channels)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_a_scene_of_another_size_is_the_same_scene():
    large, small = scenes.scene(8, 128), scenes.scene(8, 64)
    assert large.caption == small.caption
    halved = large.fg.reshape(64, 2, 64, 2, 4).mean((1, 3))
    assert np.abs(halved[..., 3] - small.fg[..., 3]).mean() < 0.02


@pytest.mark.parametrize(
    ("size", "colour", "kind", "position", "caption"),
    [
        ("small", "red", "star", "on the left", "a small red star on the left"),
        ("", "blue", "glass ball", "", "a blue glass ball"),
        ("", "orange", "fish", "", "an orange fish"),
        ("large", "orange", "fish", "on the right", "a large orange fish on the right"),
    ],
)
def test_captions(size, colour, kind, position, caption):
    subject = scenes.Subject(scenes.kind_named(kind), colour, size, position)
    assert subject.caption == caption
    scene = scenes.render(subject, "a sunset", generator(0), 32)
    assert scene.caption == caption + ", a sunset"


def test_the_vocabulary_has_every_word_once(truths):
    words = scenes.vocabulary()
    assert len(words) == len(set(words))
    used = {w for s in truths for w in s.caption.replace(",", " ,").split()}
    assert used == set(words)


def test_blended_is_the_subject_over_the_background(truths):
    for scene in truths[:20]:
        alpha = scene.fg[..., 3:]
        want = alpha * scene.fg[..., :3] + (1 - alpha) * scene.bg
        np.testing.assert_allclose(scene.blended, want, atol=1e-6)
        outside = alpha[..., 0] == 0
        assert np.array_equal(scene.blended[outside], scene.bg[outside])


@pytest.mark.parametrize("kind", scenes.KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("size", scenes.SIZES)
@pytest.mark.parametrize("position", thinned(scenes.POSITIONS, 3))
def test_a_subject_is_whole_with_an_empty_border(kind, size, position):
    subject = scenes.Subject(kind, "cyan", size, position)
    for seed in range(3):
        alpha = scenes.render(subject, "a brick wall", generator(seed)).fg[..., 3].copy()
        alpha[4:-4, 4:-4] = 0
        assert not alpha.any()


def test_positions_are_where_they_say():
    def centre(position, size):
        subject = scenes.Subject(scenes.kind_named("ball"), "red", size, position)
        alpha = scenes.render(subject, "a sunset", generator(1)).fg[..., 3]
        return (alpha.sum(0) * np.arange(128)).sum() / alpha.sum()

    for size in scenes.SIZES:
        left, middle, right = (centre(p, size) for p in ("on the left", "", "on the right"))
        assert left + 8 < middle < right - 8


def test_sizes_are_what_they_say(truths):
    shares = {size: [] for size in scenes.SIZES}
    for scene in truths:
        shares[scene.subject.size].append(scenes.coverage(scene.fg[..., 3]))
    means = [np.mean(shares[size]) for size in ("small", "", "large")]
    assert means[0] * 1.7 < means[1] < means[2] / 1.5
    assert min(shares["small"]) > 0.04
    assert max(shares["large"]) < 0.6


def test_colours_read_as_they_are_called(truths):
    right = [scenes.named_colour(s.fg) == s.subject.colour for s in truths]
    assert np.mean(right) >= 0.99


@pytest.mark.parametrize("name", scenes.COLOURS)
def test_named_colour_bears_shading_and_sees_only_the_subject(name):
    picture = np.zeros((8, 8, 4), np.float32)
    picture[..., :3] = 1.0 - np.array(scenes.COLOURS[name])
    picture[2:6, 2:6, :3] = 0.8 * np.array(scenes.COLOURS[name])
    picture[2:6, 2:6, 3] = 0.5
    assert scenes.named_colour(picture) == name


def test_colour_goes_on_where_nothing_is_seen(truths):
    for scene in truths[:60]:
        hidden = scene.fg[scene.fg[..., 3] == 0][:, :3]
        seen = np.array(scenes.COLOURS[scene.subject.colour])
        assert (hidden.max(1) > 0.25 * seen.max()).mean() > 0.97  # A butterfly's body is dark.


def test_soft_subjects_are_soft_and_solid_ones_crisp(truths):
    def mean_fraction(kinds):
        of = [s.fg[..., 3] for s in truths if s.subject.kind in kinds]
        return np.mean([scenes.soft_fraction(alpha) for alpha in of])

    assert all(mean_fraction([kind]) > 0.5 for kind in SOFT)
    assert all(mean_fraction([kind]) < 0.15 for kind in SOLID)
    assert mean_fraction(SOFT) >= 3 * mean_fraction(SOLID)


def test_held_out_pairs():
    pairs = [(k, c) for k in scenes.KINDS for c in scenes.COLOURS if scenes.held_out(k, c)]
    total = len(scenes.KINDS) * len(scenes.COLOURS)
    assert total / 14 < len(pairs) < total / 10
    assert {colour for _, colour in pairs} == set(scenes.COLOURS)
    assert {kind.soft for kind, _ in pairs} == {True, False}
    assert all(sum(k == kind for k, _ in pairs) <= 2 for kind in scenes.KINDS)


def test_held_out_pairs_are_never_drawn_for_training():
    rng = generator(0)
    for unseen in (False, True):
        drawn = {scenes.draw(rng, unseen)[0] for _ in range(1500)}
        pairs = {(subject.kind, subject.colour) for subject in drawn}
        assert {scenes.held_out(*pair) for pair in pairs} == {unseen}
        every = [(k, c) for k in scenes.KINDS for c in scenes.COLOURS]
        assert pairs == {pair for pair in every if scenes.held_out(*pair) == unseen}


def test_figures_of_an_alpha():
    alpha = np.zeros((10, 10), np.float32)
    alpha[2:8, 2:8] = 1
    assert scenes.coverage(alpha) == pytest.approx(0.36)
    assert scenes.border_alpha(alpha) == 0
    assert scenes.soft_fraction(alpha) == 0
    alpha[2:4, 2:8] = 0.5
    assert scenes.soft_fraction(alpha) == pytest.approx(1 / 3)
    assert scenes.soft_fraction(np.zeros_like(alpha)) == 0
    alpha[0], alpha[1] = 1, 1
    assert scenes.border_alpha(alpha) == pytest.approx(20 / 64)


@pytest.mark.parametrize("caption", scenes.BACKGROUNDS)
def test_backgrounds_vary(caption):
    painter = scenes.BACKGROUNDS[caption]
    first, second = (painter(generator(seed), 64) for seed in (0, 1))
    assert np.array_equal(first, painter(generator(0), 64))
    assert np.abs(first - second).mean() > 0.01

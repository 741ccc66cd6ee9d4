"""What is left of a transparent image after the way through the VAE, and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from given_weights import IMAGES, Given, named
from PIL import Image

from lib_layerdiffuse.codec.transparent import OFFSET_STRENGTH
from lib_layerdiffuse.demo.figures import round_trip_errors
from lib_layerdiffuse.imaging.images import FloatImage, ResizeMode, fit, from_u8
from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch
from lib_layerdiffuse.quality.round_trip import round_trip
from lib_layerdiffuse.standalone.defaults import defaults
from lib_layerdiffuse.tiny.scenes import scene

STRENGTHS = (1.0, OFFSET_STRENGTH)
SCENES = 8
PLACES = ("black", "white", "a random colour")

# Of the means over all images: what the tiny family keeps on the scenes that it was trained for.
# Released weights keep it on photographs, which the tiny family has never seen.
ALPHA_LIMIT, PSNR_LIMIT = 0.03, 26.0


@dataclass(frozen=True)
class Measured:
    """A checkpoint's errors by strength and image: of alpha, then the PSNR by place."""

    name: str
    errors: dict[float, dict[str, list[float]]]

    def mean(self, strength: float) -> list[float]:
        """Returns the means over the images."""
        return np.mean(list(self.errors[strength].values()), axis=0).tolist()


def images(side: int) -> dict[str, FloatImage]:
    """Returns square images by name: those of the folder, or drawn ones where none is named."""
    if not os.environ.get(IMAGES):
        return {f"scene {i}": scene(i, side, unseen=True).fg for i in range(SCENES)}
    found = {}
    for path in sorted(named(IMAGES).glob("*.png")):
        with Image.open(path) as image:
            rgba = from_u8(np.asarray(image.convert("RGBA")))
        found[path.name] = fit(rgba, side, side, ResizeMode.CROP)
    if not found:
        pytest.fail(f"{IMAGES} holds no PNG", pytrace=False)
    return found


@pytest.fixture(scope="module", params=list(Arch), ids=lambda arch: arch.name)
def measured(given: Given, request: pytest.FixtureRequest) -> Measured:
    """A family's round trips of all images, at each strength."""
    arch = request.param
    family = given.open(arch, [ENCODERS[arch], DECODERS[arch]])
    method = next(method for method in METHODS if method.arch is arch)
    rng = np.random.default_rng(0)
    errors: dict[float, dict[str, list[float]]] = {strength: {} for strength in STRENGTHS}
    for name, rgba in images(defaults(method, tiny=family.tiny).side).items():
        colour = rng.uniform(size=3).tolist()
        for strength in STRENGTHS:
            seen = round_trip(family.host, family.session, arch, rgba, strength)
            errors[strength][name] = round_trip_errors(seen, rgba, colour)
    return Measured(family.host.name, errors)


def test_alpha_survives(measured: Measured, tell: Callable[[str], None]) -> None:
    for name, (alpha, *_) in measured.errors[OFFSET_STRENGTH].items():
        tell(f"{measured.name}: {name}: alpha MAE {alpha:.4f}")
    assert measured.mean(OFFSET_STRENGTH)[0] <= ALPHA_LIMIT


@pytest.mark.parametrize("place", PLACES)
def test_composites_survive(measured: Measured, place: str, tell: Callable[[str], None]) -> None:
    at = 1 + PLACES.index(place)
    for name, errors in measured.errors[OFFSET_STRENGTH].items():
        tell(f"{measured.name}: {name}: PSNR on {place} {errors[at]:.1f} dB")
    assert measured.mean(OFFSET_STRENGTH)[at] >= PSNR_LIMIT


def test_the_default_strength_keeps_more_of_alpha(
    measured: Measured, tell: Callable[[str], None]
) -> None:
    """The original extension adds the encoder's output as it is, its author's program 300 times."""
    found = {strength: measured.mean(strength)[0] for strength in STRENGTHS}
    each = ", ".join(f"{error:.4f} at {strength:g}" for strength, error in found.items())
    tell(f"{measured.name}: mean alpha MAE by the encoder's strength: {each}")
    assert min(found, key=lambda strength: found[strength]) == OFFSET_STRENGTH

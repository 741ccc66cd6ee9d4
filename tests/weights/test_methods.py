"""Each method makes the layers that it promises, and the foreground is transparent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from given_weights import Family, Given

from lib_layerdiffuse.demo.evaluation import scene_settings, truth_of
from lib_layerdiffuse.imaging.coverage import Coverage, Verdict, measure
from lib_layerdiffuse.methods import DECODERS, METHODS, Layer, LayerMethod
from lib_layerdiffuse.standalone.defaults import defaults
from lib_layerdiffuse.standalone.generation import Generation, LayerImage
from lib_layerdiffuse.standalone.run import run
from lib_layerdiffuse.tiny.scenes import scene

STEPS, SETS = 16, 2
FLAT = 2.0  # An image whose values vary less than this, of 255, shows nothing.
CLEARER = 0.2  # The foreground has so much less alpha than with the method switched off.


def draw(method: LayerMethod, family: Family, *, strength: float = 1.0) -> list[LayerImage]:
    """Returns two sets of layers of one scene."""
    author = defaults(method, tiny=family.tiny)
    drawn = scene(0, author.side)
    settings, prompt = scene_settings(method, drawn, truth_of(drawn))
    job = Generation(
        replace(settings, stop_at=author.stop_at, strength=strength),
        prompt,
        width=author.side,
        height=author.side,
        sets=SETS,
        steps=STEPS,
        cfg=author.cfg,
        sampler=author.sampler,
    )
    return run(job, family.session, family.host)


def coverages(layers: list[LayerImage]) -> list[Coverage]:
    """Returns what was measured of each foreground."""
    return [measure(made.image) for made in layers if made.layer is Layer.FG]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.id)
def test_a_method_makes_its_layers(
    method: LayerMethod, given: Given, tell: Callable[[str], None]
) -> None:
    decoder = [DECODERS[method.arch]] if method.decodes else []
    family = given.open(method.arch, [method.weights, *decoder])
    layers = draw(method, family)
    assert [made.layer for made in layers] == list(method.outputs) * SETS
    for made in layers:
        assert made.image.shape[2] == (4 if made.layer is Layer.FG else 3)
        assert made.image[..., :3].std() > FLAT
    if not method.decodes:
        return
    on, off = coverages(layers), coverages(draw(method, family, strength=0.0))
    for name, found in (("on", on), ("off", off)):
        for one in found:
            tell(
                f"{method.id}, {name}: {one.verdict.value}, alpha {one.mean:.2f}, at the border "
                f"{one.border:.2f}, visible {one.visible:.2f}, see-through {one.see_through:.2f}"
            )
    assert all(one.verdict is Verdict.TRANSPARENT for one in on)
    alphas = (float(np.mean([one.mean for one in found])) for found in (on, off))
    assert next(alphas) <= next(alphas) - CLEARER

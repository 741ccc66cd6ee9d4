"""How well the tiny family draws: the figures of its model card.

Prompts and images are of the pairs of kind and colour that training held out. Beside each figure
stands the same one with the method switched off, or of layers that do not belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..codec.transparent import OFFSET_STRENGTH
from ..errors import SettingsError
from ..imaging.images import FloatImage, composite, from_u8
from ..methods import METHODS, Arch, Layer, LayerMethod, PatchKind, find_method
from ..quality.round_trip import round_trip
from ..quality.transparency import soft_iou
from ..settings.layer_settings import LayerSettings
from ..standalone.defaults import TINY_CFG
from ..standalone.generation import Generation
from ..standalone.models import ModelChoice, Models
from ..standalone.run import run
from ..tiny import scenes
from ..tiny.shapes import SIDE
from .figures import Figure, foreground_figures, matched_psnr, round_trip_errors

COUNT = 200
CONTROL_SHARE = 4
"""One scene in so many is drawn again with the method switched off."""
STEPS, SAMPLER = 16, "DPM++ 2M Karras"
SOLID, NOTHING = 0.95, 0.05
_CODECS = {"codec_sd15": Arch.SD15, "codec_sdxl": Arch.SDXL}
PARTS = (*_CODECS, *(method.id for method in METHODS))
"""What can be measured."""

Scenes = Sequence[scenes.Scene]
Layers = dict[Layer, FloatImage]
Told = Callable[[str, int, int], object]


def evaluate(
    parts: Sequence[str], models: Models, count: int = COUNT, tell: Told | None = None
) -> Iterator[Figure]:
    """Yields the figures of some parts, each as soon as it is there.

    Args:
        parts: Of `PARTS`.
        models: Where the tiny models come from.
        count: How many scenes.
        tell: Called with the part, the scenes done and their number.

    Raises:
        SettingsError: There is no such part.
    """
    for part in parts:
        if part not in PARTS:
            raise SettingsError(
                f"The tiny family has no part called {part}.",
                f"Use one of: {', '.join(PARTS)}.",
            )
    for part in parts:
        drawn = [scenes.scene(seed, SIDE, unseen=True) for seed in range(count)]
        if part in _CODECS:
            yield from _codec(part, _CODECS[part], models, drawn)
        else:
            yield from _Method(find_method(part), models, tell).figures(drawn)


def _codec(part: str, arch: Arch, models: Models, drawn: Scenes) -> Iterator[Figure]:
    host, session = models.open(ModelChoice(), arch)
    rng = np.random.default_rng(0)
    found: dict[float, list[list[float]]] = {}
    for strength in (OFFSET_STRENGTH, 0.0):
        for scene in drawn:
            seen = round_trip(host, session, arch, scene.fg, strength)
            errors = round_trip_errors(seen, scene.fg, rng.uniform(size=3).tolist())
            found.setdefault(strength, []).append(errors)
    here, off = (np.mean(found[strength], axis=0).tolist() for strength in (OFFSET_STRENGTH, 0.0))
    count = len(drawn)
    yield Figure(part, "alpha MAE", here[0], 0.03, off[0], count, at_most=True)
    for i, name in enumerate(("black", "white", "a random colour"), start=1):
        yield Figure(part, f"PSNR on {name}, dB", here[i], 26.0, off[i], count)


def scene_settings(
    method: LayerMethod, scene: scenes.Scene, given: Layers
) -> tuple[LayerSettings, str]:
    """Returns the settings that draw a scene with a method, and the main prompt.

    Args:
        method: What makes the layers.
        scene: Whose words to use.
        given: At least the layers that the method needs.
    """
    texts = {
        Layer.FG: scene.subject.caption,
        Layer.BG: scene.background,
        Layer.BLENDED: scene.caption,
    }
    prompts: dict[str, Any] = {
        f"{layer.value}_prompt": texts[layer] for layer in method.layer_prompts
    }
    more: dict[str, Any] = {f"{layer.value}_image": given[layer] for layer in method.inputs}
    settings = LayerSettings(enabled=True, method=method, **prompts, **more)
    return settings, "" if prompts else texts[method.outputs[0]]


class _Method:
    """Draws one method's layers for scenes and measures them."""

    def __init__(self, method: LayerMethod, models: Models, tell: Told | None) -> None:
        self.method, self.models, self.tell = method, models, tell
        self.host, self.session = models.open(ModelChoice(), method.arch)

    def figures(self, drawn: Scenes) -> Iterator[Figure]:
        """Yields the method's figures."""
        method = self.method
        if method.outputs == (Layer.FG,) and not method.inputs:
            yield from self._foregrounds(drawn)
        elif method.outputs == (Layer.FG,):
            yield from self._found_foregrounds(drawn)
        elif method.patch is PatchKind.ATTENTION_SHARING:
            yield from self._sets(drawn)
        elif Layer.BLENDED in method.outputs:
            yield from self._kept_layer(drawn)
        else:
            yield from self._backgrounds(drawn)

    def _layers(self, drawn: Scenes, acts: bool = True) -> list[Layers]:
        return [self._draw(i, x, truth_of(x), acts, len(drawn)) for i, x in enumerate(drawn)]

    def _draw(
        self, number: int, scene: scenes.Scene, given: Layers, acts: bool, total: int
    ) -> Layers:
        if self.tell is not None:
            self.tell(self.method.id if acts else f"{self.method.id}, off", number + 1, total)
        settings, prompt = scene_settings(self.method, scene, given)
        job = Generation(
            replace(settings, strength=1.0 if acts else 0.0),
            prompt,
            width=SIDE,
            height=SIDE,
            seed=1000 * number,
            steps=STEPS,
            cfg=TINY_CFG,
            sampler=SAMPLER,
        )
        made = run(job, self.session, self.host)
        return {one.layer: from_u8(one.image) for one in made}

    def _figure(self, name: str, value: float, goal: float, control: float, count: int) -> Figure:
        return Figure(self.method.id, name, float(value), goal, float(control), count)

    def _foregrounds(self, drawn: Scenes) -> Iterator[Figure]:
        rows = []
        for acts, part in ((True, drawn), (False, _control(drawn))):
            made = [layers[Layer.FG] for layers in self._layers(part, acts)]
            rows.append(foreground_figures(made, part))
        goals = {"alone on nothing, %": 95.0, "named colour, %": 85.0, "softness ratio": 3.0}
        for name, goal in goals.items():
            yield self._figure(name, rows[0][name], goal, rows[1][name], len(drawn))

    def _found_foregrounds(self, drawn: Scenes) -> Iterator[Figure]:
        def iou(part: Scenes, acts: bool) -> float:
            pairs = zip(self._layers(part, acts), part, strict=True)
            return float(np.mean([soft_iou(a[Layer.FG][..., 3], s.fg[..., 3]) for a, s in pairs]))

        on, off = iou(drawn, True), iou(_control(drawn), False)
        yield self._figure("alpha IoU with the truth", on, 0.7, off, len(drawn))

    def _sets(self, drawn: Scenes) -> Iterator[Figure]:
        made = self._layers(drawn)
        given = [
            {layer: truth_of(scene)[layer] for layer in self.method.inputs} | layers
            for scene, layers in zip(drawn, made, strict=True)
        ]
        composites = [composite(x[Layer.FG], x[Layer.BG]) for x in given]
        right, shuffled = matched_psnr([x[Layer.BLENDED] for x in given], composites)
        name = "blended against the true composite, dB"
        yield self._figure(name, right, 20.0, shuffled, len(drawn))
        name = "the same above shuffled layers, dB"
        yield self._figure(name, right - shuffled, 6.0, 0.0, len(drawn))

    def _kept_layer(self, drawn: Scenes) -> Iterator[Figure]:
        layer = self.method.inputs[0]
        blended = [x[Layer.BLENDED] for x in self._layers(drawn)]
        if layer is Layer.FG:
            kept = [scene.fg[..., 3] > SOLID for scene in drawn]
        else:
            seen = [alpha < NOTHING for alpha in self._alphas(drawn, blended)]
            kept = [part if part.any() else ~part for part in seen]  # nothing found: all counts
        truth = [truth_of(scene)[layer][..., :3] for scene in drawn]
        right, shuffled = matched_psnr(blended, truth, kept)
        name = f"keeps the given {layer.value} where it is solid, dB"
        yield self._figure(name, right, 20.0, shuffled, len(drawn))

    def _alphas(self, drawn: Scenes, blended: Sequence[FloatImage]) -> list[FloatImage]:
        """Returns where the subject is, as the method that finds foregrounds sees it."""
        finder = _Method(find_method("bg_blended_to_fg_sdxl"), self.models, self.tell)
        found = []
        for i, (scene, image) in enumerate(zip(drawn, blended, strict=True)):
            seen = truth_of(scene) | {Layer.BLENDED: image}
            found.append(finder._draw(i, scene, seen, True, len(drawn))[Layer.FG][..., 3])
        return found

    def _backgrounds(self, drawn: Scenes) -> Iterator[Figure]:
        made = [x[Layer.BG] for x in self._layers(drawn)]
        right, shuffled = matched_psnr(made, [scene.bg for scene in drawn])
        name = "background against the truth, dB"
        yield self._figure(name, right, 20.0, shuffled, len(drawn))


def _control(drawn: Scenes) -> Scenes:
    return drawn[::CONTROL_SHARE]


def truth_of(scene: scenes.Scene) -> Layers:
    """Returns a scene's layers: straight RGBA, RGB and RGB in [0, 1]."""
    return {Layer.FG: scene.fg, Layer.BG: scene.bg, Layer.BLENDED: scene.blended}

"""What a student's views come to beside its teacher's, and beside the truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from lib_layerdiffuse import tiny
from lib_layerdiffuse.codec.transparent import TransparentDecoder
from lib_layerdiffuse.codec.views import ADAPTIVE, Views
from lib_layerdiffuse.imaging.images import FloatImage, from_u8, premultiply, to_u8
from lib_layerdiffuse.methods import DECODERS, Arch
from lib_layerdiffuse.quality.measures import DIFFERENCES, MEASURES, Measure, measured
from lib_layerdiffuse.quality.pictures import Picture, drawn, in_folder, opened
from lib_layerdiffuse.quality.round_trip import hidden
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.tiny import shapes

_ROWS: tuple[tuple[str, Views], ...] = (
    ("teacher", 8),
    ("teacher", 1),
    ("teacher", ADAPTIVE),
    ("student", 8),
    ("student", 1),
    ("student", ADAPTIVE),
)
_KEPT = ("psnr_mean", "sad", "haze")
_TRUTH = [one for one in MEASURES if one.id in _KEPT or one.id.startswith("psnr_")]
_MEAN = Measure(
    "difference_mean",
    "difference, mean, 1/255",
    0.0,
    lambda seen, truth: 255 * float(np.abs(premultiply(seen) - premultiply(truth)).mean()),
)
_APART = (DIFFERENCES[0], _MEAN)


@dataclass
class Row:
    """The figures of one decoder with a number of views, by image."""

    taken: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    from_teacher: list[dict[str, float]] = field(default_factory=list)
    from_itself: list[dict[str, float]] = field(default_factory=list)
    kept: list[dict[str, float]] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Returns its table's cells."""
        means = [
            np.nanmean([one[id] for one in found])
            for found, ids in (
                (self.from_teacher, [one.id for one in _APART]),
                (self.from_itself, [_APART[0].id]),
                (self.kept, _KEPT),
            )
            for id in ids
        ]
        numbers = [np.mean(self.taken), 1000 * np.mean(self.seconds), *means]
        return [f"{number:.3g}" for number in numbers]


def figures(student: TransparentDecoder, pictures: Iterable[Picture]) -> str:
    """Returns a table in Markdown of what both make of images, means over all of them."""
    host, session = Models(tiny.layer_store).open(ModelChoice(), Arch.SD15)
    decoders = {"teacher": session.decoder(Arch.SD15), "student": student}
    rows = {row: Row() for row in _ROWS}
    for picture in pictures:
        seen = hidden(host, session, Arch.SD15, picture.rgba)
        whole: dict[str, FloatImage] = {}
        for (who, views), row in rows.items():
            start = time.process_time()
            made, taken = _decoded(decoders[who], views, *seen)
            row.seconds.append(time.process_time() - start)
            row.taken.append(taken)
            whole.setdefault(who, made)
            row.from_teacher.append(measured(made, whole["teacher"], _APART))
            row.from_itself.append(measured(made, whole[who], _APART))
            row.kept.append(measured(from_u8(to_u8(made)), picture.rgba, _TRUTH))
    names = {one.id: one.name for one in MEASURES}
    heads = ["decoder", "views", "views taken", "ms of the processor"]
    heads += [f"{one.name} from teacher's 8" for one in _APART]
    heads += [f"{_APART[0].name} from its own 8", *(names[id] for id in _KEPT)]
    lines = [heads, ["---"] * len(heads)]
    lines += [[who, str(views), *row.cells()] for (who, views), row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _decoded(
    decoder: TransparentDecoder, views: Views, pixels: Tensor, latent: Tensor
) -> tuple[FloatImage, int]:
    """Returns straight RGBA `H W 4`, and how many views were taken."""
    taken: list[int] = []
    rgba = decoder.decode(
        pixels[None], latent[None], views=views, on_view=lambda done, _: taken.append(done)
    )
    return np.ascontiguousarray(rgba[0].permute(1, 2, 0).numpy()), taken[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("out/training"))
    parser.add_argument("--pictures", type=Path, help="a folder; 60 are drawn without one")
    options = parser.parse_args()
    file = options.data / "student" / DECODERS[Arch.SD15].filename
    folder, side = options.pictures, shapes.SIDE
    found = (
        (drawn(number, side, side) for number in range(60))
        if folder is None
        else (opened(path, side, side) for path in in_folder(folder))
    )
    print(figures(TransparentDecoder.from_state_dict(load_file(file)), found))

"""The trained models in the package: that they are whole, small and draw what they claim.

Goals are below those of the model card, so that chance does not decide. `make test` draws three
scenes in half the steps; `make slow` draws more of them, as the model card does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from random_family import see_one_view
from thinned import thinned

from lib_layerdiffuse import tiny
from lib_layerdiffuse.codec.views import ADAPTIVE
from lib_layerdiffuse.demo import evaluation
from lib_layerdiffuse.demo.figures import Figure
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.pipeline import decode
from lib_layerdiffuse.quality import round_trip
from lib_layerdiffuse.released import WEIGHT_FILES
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.tiny import scenes, shapes
from lib_layerdiffuse.weights.store import FileState


@pytest.fixture(scope="module")
def models() -> Models:
    """The loader that all tests here share."""
    return Models(tiny.layer_store)


@dataclass
class Drawing:
    """How much is drawn, and what is measured of it."""

    models: Models
    few: bool

    def figures(self, part: str, scenes: int) -> list[Figure]:
        return list(evaluation.evaluate([part], self.models, 3 if self.few else scenes))


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.slow)])
def drawing(
    request: pytest.FixtureRequest, models: Models, monkeypatch: pytest.MonkeyPatch
) -> Drawing:
    few = request.param == "few"
    if few:
        monkeypatch.setattr(evaluation, "STEPS", 8)
        monkeypatch.setattr(round_trip, "decode", partial(decode, views=1))
        see_one_view(monkeypatch)
    return Drawing(models, few)


def test_the_family_is_whole_and_small() -> None:
    store = tiny.layer_store()
    for file in WEIGHT_FILES.values():
        assert store.find(file) is not None, file.filename
        assert store.verify(file).state is FileState.OWN, file.filename
    for arch in Arch:
        assert (tiny.checkpoint(arch) / "model_index.json").is_file()
    size = sum(path.stat().st_size for path in tiny.FOLDER.rglob("*") if path.is_file())
    assert size <= 32_000_000


@pytest.mark.parametrize("arch", Arch)
def test_all_views_of_its_decoder_agree(models: Models, arch: Arch) -> None:
    host, session = models.open(ModelChoice(), arch)
    rgba = scenes.scene(0, shapes.SIDE, unseen=True).fg
    seen = [part[None] for part in round_trip.hidden(host, session, arch, rgba)]
    decoder, taken = session.decoder(arch), []
    eight = decoder.decode(*seen)
    few = decoder.decode(*seen, views=ADAPTIVE, on_view=lambda done, _: taken.append(done))
    assert taken == [1, 2]
    torch.testing.assert_close(few, eight, rtol=0, atol=0.1 / 255)


def test_the_tokenizer_knows_every_word_of_the_scenes() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tiny.checkpoint(Arch.SDXL) / "tokenizer")
    for word in scenes.vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word


@pytest.mark.parametrize("arch", list(Arch))
def test_the_models_are_of_the_shapes_that_training_makes(arch: Arch, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    made = shapes.pipeline(arch, tmp_path)
    for name, part in made.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        (file,) = (tiny.checkpoint(arch) / name).glob("*.safetensors")
        kept = {key: tensor.shape for key, tensor in load_file(file).items()}
        assert kept == {key: tensor.shape for key, tensor in part.state_dict().items()}, name
        assert {tensor.dtype for tensor in part.parameters()} == {torch.float32}, name
    assert made.vae.config.scaling_factor == shapes.SCALING[arch]


@pytest.mark.parametrize("part", thinned(["codec_sd15", "codec_sdxl"], 2))
def test_a_subject_survives_the_codec(part: str, drawing: Drawing) -> None:
    alpha, *over = drawing.figures(part, 8)
    assert alpha.value <= 0.03
    assert all(figure.value >= 25 for figure in over)


@pytest.mark.parametrize("part", thinned(["fg_attn_sd15", "fg_attn_sdxl", "fg_conv_sdxl"], 3))
def test_a_subject_stands_alone_with_the_method_and_not_without(
    part: str, drawing: Drawing
) -> None:
    alone, colour, softness = drawing.figures(part, 8)
    assert alone.value >= 95
    assert alone.control <= alone.value - 40
    assert colour.value >= 85
    assert drawing.few or softness.value > 2.5  # None of the three is soft.


@pytest.mark.parametrize("part", thinned(["joint_sd15", "fg_to_bg_sd15", "bg_to_fg_sd15"], 3))
@pytest.mark.slow
def test_layers_of_a_set_belong_together(part: str, drawing: Drawing) -> None:
    composite, above = drawing.figures(part, 4)
    assert composite.value >= 20
    assert above.value >= 6


@pytest.mark.parametrize("part", thinned(["fg_to_blended_sdxl", "bg_to_blended_sdxl"], 2))
@pytest.mark.slow
def test_a_given_layer_is_kept(part: str, drawing: Drawing) -> None:
    (kept,) = drawing.figures(part, 4)
    assert kept.value >= 17
    assert kept.value >= kept.control + 5


@pytest.mark.slow
def test_a_foreground_is_found_in_a_blended_picture(drawing: Drawing) -> None:
    (iou,) = drawing.figures("bg_blended_to_fg_sdxl", 4)
    assert iou.value >= 0.65
    assert iou.value >= iou.control + 0.3


def test_a_background_is_found_behind_a_foreground(drawing: Drawing) -> None:
    (background,) = drawing.figures("fg_blended_to_bg_sdxl", 4)
    assert background.value >= 18
    assert background.value >= background.control + 5


def test_the_python_example_of_the_pages_draws(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "standalone.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    instead = {
        '"juggernautXL.safetensors"': repr(str(tiny.checkpoint(Arch.SDXL))),
        '"models/layer_model"': repr(str(tiny.FOLDER / "layer_model")),
        "seed=12345": "seed=12345, width=96, height=96, steps=2",
    }
    for text, other in instead.items():
        assert code.count(text) == 1
        code = code.replace(text, other)
    exec(code, {})
    assert capsys.readouterr().out.startswith("(96, 96, 4) an apple, high quality\n")

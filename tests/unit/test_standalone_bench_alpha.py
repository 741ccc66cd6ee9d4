"""`layerdiffuse bench-alpha`: its images, its report, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import done, fails
from PIL import Image

from lib_layerdiffuse.cli.bench_alpha_command import DRAWN
from lib_layerdiffuse.errors import CodecError, SettingsError
from lib_layerdiffuse.imaging.coverage import Verdict, measure
from lib_layerdiffuse.imaging.images import to_u8
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.quality.bench import Bench
from lib_layerdiffuse.quality.decoder_settings import DecoderSetting, read_decoder_setting
from lib_layerdiffuse.quality.measures import DIFFERENCES, MEASURES
from lib_layerdiffuse.quality.pictures import EMPTY, KINDS, OPAQUE, Picture, drawn, in_folder
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.tiny.scenes import soft_fraction

EMOJI = Path(__file__).parents[1] / "data" / "fluent_emoji"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two transparent images of odd sizes, and a file of another kind."""
    made = tmp_path / "pictures"
    made.mkdir()
    for name, size in (("a.png", (40, 70)), ("b.webp", (90, 64))):
        rgba = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
        Image.fromarray(rgba).save(made / name, lossless=True)
    (made / "notes.txt").write_text("no image")
    return made


@pytest.fixture
def bench(family: Path) -> Bench:
    """A bench of the small random codec."""
    host, session = Models(lambda: None).open(ModelChoice(), Arch.SD15)
    return Bench(host, session, Arch.SD15)


# Images


def test_at_least_sixty_images_of_all_kinds_are_drawn():
    made = [drawn(number, 32, 32) for number in range(DRAWN)]
    assert len({one.name for one in made}) == DRAWN >= 60
    kinds = {kind: [one for one in made if one.kind == kind] for kind in KINDS}
    assert min(map(len, kinds.values())) >= 3
    glass_glow_hair = ("glass ball", "soap bubble", "glowing orb", "flame", "fur ball")
    assert {*glass_glow_hair, "puff of smoke", "star", "cube", OPAQUE, EMPTY} <= {*kinds}
    for kind in glass_glow_hair:
        soft = [soft_fraction(one.rgba[..., 3]) for one in kinds[kind]]
        assert np.mean(soft) > 2 * np.mean([soft_fraction(x.rgba[..., 3]) for x in kinds["cube"]])
    verdicts = {kind: measure(to_u8(kinds[kind][0].rgba)).verdict for kind in (OPAQUE, EMPTY)}
    assert verdicts == {OPAQUE: Verdict.OPAQUE, EMPTY: Verdict.EMPTY}


def test_a_drawn_image_is_always_the_same():
    first, again = drawn(19, 64, 48), drawn(19, 64, 48)
    assert first.name == again.name == "019-glowing-orb"
    assert first.rgba.shape == (48, 64, 4)
    assert (first.rgba == again.rgba).all()
    assert (first.rgba != drawn(19 + len(KINDS), 64, 48).rgba).any()


def test_the_emoji_are_transparent_images_under_a_licence_that_comes_with_them():
    files = in_folder(EMOJI)
    assert len(files) >= 12
    for file in files:
        with Image.open(file) as image:
            assert measure(np.asarray(image.convert("RGBA"))).verdict is Verdict.TRANSPARENT
    licence = (EMOJI / "LICENSE").read_text("utf-8")
    assert licence.startswith("MIT License\n\nCopyright (c) Microsoft Corporation")


# Settings


def test_a_setting_is_read():
    assert read_decoder_setting("views=4") == DecoderSetting(views=4)
    assert read_decoder_setting("views=adaptive").name == "adaptive views, float32"
    assert read_decoder_setting("Views = 1, dtype=Float16,tile=256") == DecoderSetting(
        1, "float16", 256
    )
    assert read_decoder_setting("tile=256,views=1").name == "1 view, float32, parts of 256"


@pytest.mark.parametrize(
    "text", ["", "4", "views", "views=", "views=0", "views=9", "views=٣", "dtype=int8", "tile=1"]
)
def test_a_setting_that_is_none_is_refused(text):
    with pytest.raises(SettingsError):
        read_decoder_setting(text)


# Figures


def test_the_reference_is_nothing_apart_from_itself(bench):
    settings = [DecoderSetting(views=2), DecoderSetting(views=2), DecoderSetting(views=1)]
    reference, same, other = bench.run([drawn(0, 64, 64), drawn(8, 64, 64)], settings)
    assert reference.apart_summary == []
    for row in same.apart_summary:
        assert row.count == 0 or row.worst == pytest.approx(row.measure.ideal, abs=1e-9), row
    most = {row.measure.id: row.worst for row in other.apart_summary}["difference_most"]
    assert most > 0


def test_a_type_leaves_the_others_networks_as_they_are(bench):
    settings = [DecoderSetting(1), DecoderSetting(1, "bfloat16"), DecoderSetting(1)]
    _, half, again = bench.run([drawn(0, 64, 64), drawn(1, 64, 64)], settings)
    most = {one.id for one in DIFFERENCES}
    assert all(values[id] > 0 for values in half.apart.values() for id in most)
    assert all(values[id] == 0 for values in again.apart.values() for id in most)


def test_what_a_setting_cannot_do_is_told_with_its_image(bench, monkeypatch):
    def full(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr("lib_layerdiffuse.codec.transparent.TransparentDecoder.decode", full)
    with pytest.raises(CodecError, match=r"for x\.png with 8 views, float32: out of memory\."):
        bench.run([Picture("x.png", "", drawn(0, 64, 64).rgba)], [DecoderSetting()])


# The command


def test_it_prints_tables(capfd, family, folder):
    out = done(capfd, "bench-alpha", folder, "--setting", "views=1", "--quiet")
    assert out.startswith("2 images, of pictures, 64×64; ")
    for one in MEASURES:
        assert out.count(f"| {one.name} | {one.ideal:g} | ") == 2
    for one in DIFFERENCES:
        assert out.count(f"| {one.name} | 0 | ") == 1
    assert "| 8 views, float32 | 1 view, float32 |" in out


def test_it_prints_and_writes_json(capfd, family, folder, tmp_path):
    place = tmp_path / "out"
    command = ("bench-alpha", folder, "--drawn", "1", "--json", "--out", place, "--size", "64x72")
    out = done(capfd, *command)
    assert (place / "bench-alpha.json").read_text("utf-8") == out.removesuffix("\n")
    assert (
        (place / "bench-alpha.md")
        .read_text("utf-8")
        .startswith("3 images, of pictures and 1 drawn")
    )
    found = json.loads(out)
    assert found["subject"]["size"] == [64, 72]
    (reference,) = found["settings"]
    assert reference["setting"] == {"views": 8, "dtype": "float32", "tile": None}
    assert [row["id"] for row in reference["against_truth"]] == [one.id for one in MEASURES]
    images = {image["name"]: image for image in reference["images"]}
    assert list(images)[:2] == ["a.png", "b.webp"]
    assert images["000-glass-ball"]["kind"] == "glass ball"
    assert reference["seconds"] > 0


def test_the_other_family_is_chosen(capfd, family):
    out = done(capfd, "bench-alpha", "--drawn", "1", "--family", "SDXL", "--quiet")
    assert out.startswith("1 image, drawn, 64×64; sdxl (SDXL)")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (None, b"", "holds no images. Put transparent images"),
        ("a.png", b"text", "a.png is not an image that can be read"),
        ("a.jpg", "RGB", "a.jpg has no alpha channel. Leave it out"),
        ("a.png", "RGB", "a.png has no alpha channel. Leave it out"),
    ],
)
def test_a_folder_that_cannot_be_measured_is_told_in_one_line(
    capfd, family, tmp_path, name, content, said
):
    place = tmp_path / "here"
    place.mkdir()
    if isinstance(content, str):
        Image.new(content, (8, 8)).save(place / name)
    elif name:
        (place / name).write_bytes(content)
    assert said in fails(capfd, "bench-alpha", place)


def test_an_opaque_image_with_an_alpha_channel_is_measured(capfd, family, tmp_path):
    Image.new("RGBA", (64, 64), (9, 9, 9, 255)).save(tmp_path / "a.png")
    found = json.loads(done(capfd, "bench-alpha", tmp_path, "--json"))
    (image,) = found["settings"][0]["images"]
    assert image["against_truth"]["sad"] is None  # None of its pixels is soft.
    assert image["against_truth"]["kept_opaque"] is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "There is no folder absent."),
        (["--setting=views=9"], "views is adaptive or a whole number from 1 to 8"),
        (["--setting=speed=9"], "There is no part of a decoder's setting called speed."),
        (["--drawn=0"], "between 1 and 10000"),
        (["--size=100"], "multiples of 8"),
        (["--strength=nan"], "a number between 0 and 1000"),
        (["--checkpoint=x.safetensors", "--family=sdxl"], "Leave one of them out."),
        (["--models-dir=x"], "The tiny family has its own layer files"),
    ],
)
def test_arguments_that_do_not_fit_are_told_in_one_line(capfd, family, arguments, said):
    assert said in fails(capfd, "bench-alpha", *arguments)


def test_a_session_is_asked_for_its_decoder_once(bench, monkeypatch):
    asked: list[Arch] = []
    found = Session.decoder

    def counted(self: Session, arch: Arch) -> object:
        asked.append(arch)
        return found(self, arch)

    monkeypatch.setattr(Session, "decoder", counted)
    bench.run([drawn(0, 64, 64), drawn(1, 64, 64)], [DecoderSetting(1), DecoderSetting(2)])
    assert asked == [Arch.SD15]

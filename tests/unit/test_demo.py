"""A smaller run of what `make demo` does."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from lib_layerdiffuse.cli import main
from lib_layerdiffuse.demo.run_demo import PLANS, Part, run_demo
from lib_layerdiffuse.imaging.images import composite, from_u8, to_u8
from lib_layerdiffuse.methods import Arch, Layer, find_method
from lib_layerdiffuse.standalone.models import Models
from lib_layerdiffuse.tiny import scenes


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "a folder" / "demo"


@pytest.fixture
def parts(family: Path, out: Path) -> list[Part]:
    return run_demo(out, Models(lambda: None), steps=2)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [unquote(v) for k, v in attrs if k in ("href", "src") and v]


def test_every_layer_is_made_and_written(parts, out):
    assert [part.plan for part in parts] == list(PLANS)
    names = {part.plan.name: [one.name for one in part.exhibits] for part in parts}
    assert names == {
        "1-subject": ["fg"],
        "2-subject": ["fg"],
        "3-joint": ["fg", "bg", "blended", "composite"],
        "4-background": ["given", "bg", "blended", "composite"],
        "5-foreground": ["given", "fg", "blended", "composite"],
        "6-chain": ["given", "blended", "fg", "composite"],
    }
    for part in parts:
        for one in part.exhibits:
            np.testing.assert_array_equal(read(one.path), one.pixels)
            assert one.path == out / f"{part.plan.name}-{one.name}.png"
            drawn = one.name not in ("given", "composite")
            assert bool(one.infotext) is drawn
            assert (one.pixels.shape[2] == 4) is (
                one.name == "fg" or "Foreground, g" in one.caption
            )
    _check_what_was_given({part.plan.name: part for part in parts})
    _check_the_page(out, parts)


def _check_what_was_given(parts: dict[str, Part]) -> None:
    for plan in PLANS:
        if plan.given:
            name, layer = plan.given
            given = parts[plan.name].pixels("given")
            np.testing.assert_array_equal(given, parts[name].pixels(layer.value))
    joint = parts["3-joint"]
    expected = composite(from_u8(joint.pixels("fg")), from_u8(joint.pixels("bg")))
    np.testing.assert_array_equal(joint.pixels("composite"), to_u8(expected))
    chain = parts["6-chain"]
    expected = composite(from_u8(chain.pixels("fg")), from_u8(chain.pixels("given")))
    np.testing.assert_array_equal(chain.pixels("composite"), to_u8(expected))
    for one in parts["6-chain"].exhibits[1:3]:
        prompt = one.infotext.splitlines()[0]
        assert prompt == parts["6-chain"].plan.prompts[Layer(one.name)]


def _check_the_page(out: Path, parts: list[Part]) -> None:
    page = (out / "index.html").read_text("utf-8")
    links = Links(page).found
    assert all((out / link).is_file() for link in links)
    pictures = {one.path.name for part in parts for one in part.exhibits}
    assert set(links) == pictures | {"sheet.png"}
    assert "://" not in page
    for part in parts:
        for text in part.plan.prompts.values():
            assert f"“{text}”" in page
        assert part.plan.method in page
    assert read(out / "sheet.png").ndim == 3
    assert {path.name for path in out.iterdir()} == pictures | {"sheet.png", "index.html"}


def test_the_plans_show_both_families_and_every_kind_of_job():
    methods = [find_method(plan.method) for plan in PLANS]
    assert {method.arch for method in methods} == set(Arch)
    assert {method.inputs for method in methods} == {(), (Layer.FG,), (Layer.BG,)}
    for number, (plan, method) in enumerate(zip(PLANS, methods, strict=True)):
        makes = set(method.outputs)
        assert makes <= set(plan.prompts)
        if plan.given:
            earlier = next(p for p in PLANS[:number] if p.name == plan.given[0])
            assert plan.given[1] in {*find_method(earlier.method).outputs, *earlier.prompts}
            assert method.inputs == (plan.given[1],)


def test_the_prompts_are_words_that_the_tiny_family_knows():
    known = set(scenes.vocabulary())
    for plan in PLANS:
        for text in plan.prompts.values():
            assert set(re.findall(r"\w+|,", text)) <= known


def test_the_command_says_where_everything_is(capfd, monkeypatch, family, tmp_path):
    import functools

    from lib_layerdiffuse.demo import run_demo as demo

    monkeypatch.setattr(demo, "run_demo", functools.partial(run_demo, plans=PLANS[:1], steps=1))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # To be put back afterwards.
    out = tmp_path / "one two"
    assert main(["demo", "--out", str(out)]) == 0
    said, noted = capfd.readouterr()
    assert said.splitlines() == [
        f"Images: {out}",
        f"Contact sheet: {out / 'sheet.png'}",
        f"Open in a browser: {(out / 'index.html').as_uri()}",
    ]
    assert "1/1 A transparent subject, SD1.5" in noted
    assert (out / "index.html").exists()
    assert os.environ["HF_HUB_OFFLINE"] == "1"

"""The program that draws the README's strip of results, with a command line that paints."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("PIL", minversion="10.1", reason="older ones have one size of font")

from PIL import Image

from lib_layerdiffuse import cli
from lib_layerdiffuse.methods import find_method

FOLDER = Path(__file__).parents[2] / "docs" / "images"
COLOURS = {"fg": (200, 0, 0, 128), "bg": (0, 200, 0, 255), "blended": (0, 0, 200, 255)}


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_strip", FOLDER / "make_strip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def painting(ran: list[list[str]]) -> Callable[[list[str]], int]:
    """Returns a command line that reads its arguments as the real one, and paints plain layers."""

    def main(arguments: list[str]) -> int:
        args = cli._parser().parse_args(arguments)
        ran.append(arguments)
        chain = arguments[0] == "chain"
        layers = ("blended", "fg") if chain else [x.value for x in find_method(args.method).outputs]
        args.out.mkdir()
        for seed, layer in enumerate(layers, args.seed):
            image = Image.new("RGBA", (96, 96), COLOURS[layer])
            image.save(args.out / f"00000-{seed}-{layer}.png")
        return 0

    return main


def test_each_tile_shows_its_layer(program, tmp_path, monkeypatch):
    ran: list[list[str]] = []
    monkeypatch.setattr(cli, "main", painting(ran))
    rows = program.rows(tmp_path)
    assert all(sum(len(group.tiles) for group in row) == program.COLUMNS for row in rows)
    strip = program.strip(rows)
    assert len(ran) == 9
    middles = range(program.SIDE // 2, strip.width, program.SIDE + program.GAP)
    height = (strip.height + program.GAP) // 2
    seen = [
        [strip.getpixel((x, top + program.HEADING + program.SIDE // 2)) for x in middles]
        for top in (0, height)
    ]
    assert {max(range(3), key=pixel.__getitem__) for pixel in seen[0]} == {0}, "six foregrounds"
    assert [max(range(3), key=pixel.__getitem__) for pixel in seen[1]] == [0, 1, 2, 1, 2, 0]
    assert strip.getpixel((0, program.HEADING))[3] == 0, "rounded corners"


def test_a_command_that_fails_stops_it(program, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "main", lambda _: 2)
    with pytest.raises(SystemExit):
        program.rows(tmp_path)


def test_the_strip_in_the_readme_is_of_that_size(program):
    columns, side = program.COLUMNS, program.SIDE
    with Image.open(FOLDER / "strip.png") as strip:
        assert strip.width == columns * (side + program.GAP) - program.GAP
        assert strip.mode == "RGBA"
    assert (FOLDER / "strip.png").stat().st_size < 600_000

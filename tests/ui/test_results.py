"""What a job leaves besides its images: files of all its layers, and notes on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from client import Client
from documents import assert_shows, read_layers
from forge_server import ForgeServer
from real_forge import Models
from safetensors.torch import load_file, save_file

from lib_layerdiffuse.methods import DECODERS, Arch, find_method
from lib_layerdiffuse.weights.checksums import sha256_of

if TYPE_CHECKING:
    from webui_page import WebuiPage

JOINT = find_method("joint_sd15")
NAMES = ["Background", "Foreground", "Blended"]  # From the bottom up.


@pytest.fixture
def layer_files(server: ForgeServer) -> Iterator[None]:
    """Has every kind of layer file written in one test."""
    client = Client(server.url)
    client.set_options(layerdiffuse_layer_files=["psd", "ora", "zip"])
    yield
    client.set_options(layerdiffuse_layer_files=[])


@pytest.mark.usefixtures("layer_files")
def test_layers_in_files_for_other_programs(server: ForgeServer, page: WebuiPage) -> None:
    page.small_job()
    page.open_panel()
    page.choose_method(JOINT.label)
    page.generate()
    assert "layers saved as" in page.notes()
    fg, bg, blended = page.gallery()[-3:]
    for suffix in (".psd", ".ora", ".zip"):
        [path] = server.data_dir.rglob(f"*-layers{suffix}")
        assert path.name in page.notes()
        layers = dict(read_layers(path))
        assert list(layers) == NAMES
        for found, shown in zip(layers.values(), (bg, fg, blended), strict=True):
            assert_shows(found, shown)


def with_solid_decoder(models: Models, folder: Path) -> list[Path]:
    """Returns the layer weights with a decoder for SD1.5 that finds everything solid."""
    decoder, *others = sorted(
        models.layer_weights, key=lambda file: file.name != DECODERS[Arch.SD15].filename
    )
    made, sums = folder / decoder.name, folder / "SHA256SUMS"
    tensors = load_file(decoder)
    tensors["conv_out.bias"][0] += 100  # Alpha is the first channel inside the networks.
    save_file(tensors, str(made))
    [known] = [file for file in others if file.name == sums.name]
    lines = [line for line in known.read_text().splitlines() if not line.endswith(decoder.name)]
    sums.write_text("\n".join([*lines, f"{sha256_of(made)}  {made.name}\n"]))
    return [made, sums, *(file for file in others if file != known)]


def test_a_result_without_transparency_is_told_with_what_helps(
    make_server: Callable[..., ForgeServer],
    models: Models,
    open_page: Callable[..., WebuiPage],
    tmp_path: Path,
) -> None:
    weights = with_solid_decoder(models, tmp_path)
    with make_server(tmp_path / "data", layer_weights=weights) as server:
        page = open_page(server)
        page.small_job()
        page.open_panel()
        page.choose_method(find_method("fg_attn_sd15").label)
        page.generate()
        assert page.gallery()[-1][..., 3].min() == 255
        assert "a foreground came out opaque, without transparency." in page.notes()
        assert "gray background" in page.notes()
        page.set_slider("strength", 0)
        page.generate()
        assert "since weight or stop-at is 0" in page.notes()


def test_an_error_is_told_below_the_gallery(page: WebuiPage) -> None:
    page.small_job()
    page.open_panel()
    page.choose_method(find_method("bg_to_fg_sd15").label)
    page.generate()
    assert page.gallery() == []
    assert "This method needs a background image." in page.notes()
    assert "Put one in the Background slot." in page.notes()

"""Alpha in the files, the gallery and the API, with the host's default options and others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from client import Client, Result
from forge_server import ForgeServer
from layers import generate, mode_of, notes
from PIL import Image
from random_weights import SD15

SMALL = {"width": 128, "height": 128}


@pytest.fixture
def options(client: Client) -> Iterator[Any]:
    """Sets options for one test."""
    before = client.options()
    changed: dict[str, Any] = {}

    def put(**values: Any) -> None:
        changed.update({name: before[name] for name in values})
        client.set_options(**values)

    yield put
    client.set_options(**changed)


def files(forge: ForgeServer) -> set[Path]:
    """Returns every image that the server has saved."""
    return {p for p in forge.data_dir.rglob("output*/**/*.*") if p.is_file()}


def save(forge: ForgeServer, client: Client, tmp_path: Path, **settings: Any) -> tuple[Result, Any]:
    """Runs a joint set that is saved; returns it with its files by layer."""
    client.use_checkpoint(SD15)
    before = files(forge)
    made = generate(
        client, "joint_sd15", tmp_path / "run", save_images=True, settings=settings, **SMALL
    )
    new = files(forge) - before
    return made, {p.stem.partition("1234")[0] + p.stem.rsplit("-", 1)[-1]: p for p in new}


def transparent(made: Result) -> np.ndarray:
    """Returns the set's foreground; the API gives a grid before it where images are saved."""
    [image] = [i for i in made.images if i.shape == (128, 128, 4)]
    return image


def by_layer(saved: dict[str, Path], layer: str) -> Path:
    [path] = [p for p in saved.values() if p.stem.endswith(f"-{layer}")]
    return path


def test_default_options(forge: ForgeServer, client: Client, tmp_path: Path) -> None:
    assert client.options()["stealth_pnginfo_option"] == "Alpha"
    made, saved = save(forge, client, tmp_path)
    fg = Image.open(by_layer(saved, "fg"))
    assert fg.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(fg), transparent(made))
    assert "layerdiffusion_method: (SD1.5) Generate Everything Together" in fg.info["parameters"]
    for layer in ("bg", "blended"):
        assert mode_of(by_layer(saved, layer)) == "RGB"
    assert client.options()["stealth_pnginfo_option"] == "Alpha"


@pytest.mark.parametrize("mode", ["RGB", "None"])
def test_other_stealth_modes(
    forge: ForgeServer, client: Client, options: Any, tmp_path: Path, mode: str
) -> None:
    options(stealth_pnginfo_option=mode)
    made, saved = save(forge, client, tmp_path)
    fg = np.asarray(Image.open(by_layer(saved, "fg")))
    np.testing.assert_array_equal(fg, transparent(made))


@pytest.mark.parametrize("form", ["jpg", "webp"])
def test_lossy_formats_keep_alpha_as_png(
    forge: ForgeServer, client: Client, options: Any, tmp_path: Path, form: str
) -> None:
    options(samples_format=form)
    made, saved = save(forge, client, tmp_path)
    fg = by_layer(saved, "fg")
    assert fg.suffix == ".png"
    assert by_layer(saved, "bg").suffix == f".{form}"
    np.testing.assert_array_equal(np.asarray(Image.open(fg)), transparent(made))
    assert any("PNG" in text for text in notes(made))


def test_a_set_has_one_number(forge: ForgeServer, client: Client, tmp_path: Path) -> None:
    numbers = []
    for n in range(2):
        _, saved = save(forge, client, tmp_path / str(n), show_matte=True)
        layers = [by_layer(saved, layer) for layer in ("fg", "bg", "blended", "fg-matte")]
        [number] = {path.stem.partition("-")[0] for path in layers}
        numbers.append(int(number))
    assert numbers[1] > numbers[0]


def test_preview_and_matte(forge: ForgeServer, client: Client, tmp_path: Path) -> None:
    made, saved = save(forge, client, tmp_path, show_preview=True, show_matte=True)
    rgba, (preview, matte) = transparent(made), made.images[-2:]
    np.testing.assert_array_equal(matte[..., 0], rgba[..., 3])
    assert preview.shape == (128, 128, 3)
    assert by_layer(saved, "fg-preview").exists()
    assert by_layer(saved, "fg-matte").exists()


def test_paste_last_has_the_settings(forge: ForgeServer, client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    settings = {"bg_additional_prompt": "a chair", "weight": 0.5}
    generate(client, "joint_sd15", tmp_path / "run", settings=settings, **SMALL)
    last = (forge.data_dir / "params.txt").read_text(encoding="utf8")
    assert "layerdiffusion_weight: 0.5" in last
    assert "layerdiffusion_bg_additional_prompt: a chair" in last
    assert last.startswith("a glass ball\n")


def test_settings_saved_while_a_job_runs_are_the_users(forge: ForgeServer, client: Client) -> None:
    client.use_checkpoint(SD15)
    before = client.options()
    job: dict[str, Any] = {"prompt": "a glass ball", "width": 64, "height": 64, "steps": 8}
    job["alwayson_scripts"] = {"layerdiffuse": {"args": [{"method": "fg_attn_sd15"}]}}
    running = Thread(target=client.call, args=("POST", "/sdapi/v1/txt2img", job))
    running.start()
    saves = 0
    while running.is_alive():
        client.set_options(save_txt=False)
        kept = json.loads((forge.data_dir / "config.json").read_text())
        for name in ("stealth_pnginfo_option", "img2img_background_color"):
            assert kept.get(name, before[name]) == before[name]
        saves += client.progress()["state"]["sampling_step"] > 0
        running.join(0.2)
    assert saves

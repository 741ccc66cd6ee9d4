"""Files of a set's layers over the API."""

from __future__ import annotations

from pathlib import Path

import pytest
from client import Client
from documents import assert_shows, read_layers
from forge_server import ForgeServer
from layers import generate
from PIL import Image
from random_weights import SD15

from lib_layerdiffuse.methods import find_method

SMALL = {"width": 128, "height": 128}
KINDS = ["psd", "ora", "zip"]
NAMES = ["Background", "Foreground", "Blended"]  # From the bottom up.


def test_each_set_has_one_of_each_kind_beside_its_pictures(
    forge: ForgeServer, client: Client, tmp_path: Path
) -> None:
    client.use_checkpoint(SD15)
    made = generate(
        client,
        "joint_sd15",
        tmp_path / "run",
        batch_size=2,
        save_images=True,
        override_settings={"layerdiffuse_layer_files": KINDS},
        **SMALL,
    )
    told = made.info["extra_generation_params"]
    shown = list(zip(told["layerdiffusion_layers"], made.images, strict=True))
    paths = [forge.data_dir / path for path in told["layerdiffusion_files"]]
    assert [path.suffix for path in paths] == 2 * [f".{kind}" for kind in KINDS]
    for number, of_set in ((1, paths[:3]), (2, paths[3:])):
        for path in of_set:
            layers = dict(read_layers(path))
            assert list(layers) == [f"{name} {number}" for name in NAMES]
            for name, layer in zip(layers, ("bg", "fg", "blended"), strict=True):
                picture = [image for kind, image in shown if kind == layer][number - 1]
                assert_shows(layers[name], picture)
            assert path.with_name(path.stem.replace("-layers", "-fg") + ".png").exists()


@pytest.mark.parametrize("form", ["jpg", "webp"])
def test_lossy_pictures_and_a_given_layer(
    forge: ForgeServer, client: Client, tmp_path: Path, form: str
) -> None:
    """The file has the images as they were made, not as they were saved."""
    client.use_checkpoint(SD15)
    method = find_method("fg_to_bg_sd15")
    made = generate(
        client,
        method.id,
        tmp_path / "run",
        save_images=True,
        override_settings={"layerdiffuse_layer_files": ["zip"], "samples_format": form},
        **SMALL,
    )
    [name] = made.info["extra_generation_params"]["layerdiffusion_files"]
    path = forge.data_dir / name
    layers = dict(read_layers(path))
    assert list(layers) == NAMES
    assert layers["Foreground"].shape == (128, 128, 4)
    assert layers["Foreground"][..., 3].std() > 5
    saved = path.with_name(path.stem.replace("-layers", f"-{method.outputs[0].value}") + f".{form}")
    lossy = Image.open(saved).convert("RGB")
    assert lossy.size == (128, 128)
    assert layers["Background"][..., :3].tobytes() != lossy.tobytes()


def test_none_where_no_pictures_are_saved(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    wanted = {"layerdiffuse_layer_files": ["psd"]}
    made = generate(client, "fg_attn_sd15", tmp_path / "run", override_settings=wanted, **SMALL)
    assert "layerdiffusion_files" not in made.info["extra_generation_params"]

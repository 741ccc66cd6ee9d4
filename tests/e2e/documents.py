"""Files of several layers, opened by readers that know nothing of the code that wrote them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

Layers = list[tuple[str, np.ndarray]]
"""Names and images `h w 4` from the bottom up."""


def pixels(image: Image.Image | None) -> np.ndarray:
    """Returns an image as straight RGBA."""
    assert image is not None
    return np.asarray(image.convert("RGBA"))


def read_layers(path: Path) -> Layers:
    """Returns the layers of a PSD, OpenRaster or ZIP file."""
    return {".psd": _of_psd, ".ora": _of_ora, ".zip": _of_zip}[path.suffix](path)


def _of_psd(path: Path) -> Layers:
    psd_tools = pytest.importorskip("psd_tools")
    return [(layer.name, pixels(layer.topil())) for layer in psd_tools.PSDImage.open(path)]


def _of_ora(path: Path) -> Layers:
    with zipfile.ZipFile(path) as archive:
        stack = ElementTree.fromstring(archive.read("stack.xml"))
        layers = [
            (layer.get("name", ""), pixels(Image.open(archive.open(layer.get("src", "")))))
            for layer in stack.iter("layer")
        ]
    return layers[::-1]


def _of_zip(path: Path) -> Layers:
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("layers.json"))["layers"]
        return [(one["name"], pixels(Image.open(archive.open(one["file"])))) for one in listed]


def assert_shows(found: np.ndarray, picture: np.ndarray) -> None:
    """Checks that a layer has an image's alpha, and its colours wherever they can be seen."""
    wanted = pixels(Image.fromarray(picture))
    visible = wanted[..., 3] > 0
    np.testing.assert_array_equal(found[..., 3], wanted[..., 3])
    np.testing.assert_array_equal(found[visible], wanted[visible])

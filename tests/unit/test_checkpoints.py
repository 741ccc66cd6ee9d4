"""Families of checkpoint files, by their headers."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_codec import released_shapes

from lib_layerdiffuse.errors import WeightsError
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.weights import checkpoints
from lib_layerdiffuse.weights.checkpoints import CheckpointReader, arch_of, read_shapes, text_width

CROSS = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
LABEL = "model.diffusion_model.label_emb.0.0.weight"
SD15 = {CROSS: (2, 768)}
SDXL = {CROSS: (2, 2048), LABEL: (2, 2)}


def write(path, shapes):
    save_file({key: np.zeros(shape, np.float16) for key, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(("layout", "arch"), [("sd15", Arch.SD15), ("sdxl", Arch.SDXL)])
def test_the_published_checkpoints(layout, arch):
    assert arch_of(released_shapes(f"{layout}_checkpoint")) is arch


@pytest.mark.parametrize(
    ("shapes", "width"),
    [
        ({CROSS: (2, 1024)}, 1024),  # SD2
        ({CROSS: (2, 1280), LABEL: (2, 2)}, 1280),  # SDXL's refiner
        ({CROSS: (2, 2048)}, 2048),
        ({CROSS: (2, 768), LABEL: (2, 2)}, 768),
        ({CROSS: (491520,)}, 491520),  # packed four-bit weights
        ({CROSS.removeprefix("model."): (2, 768)}, 0),  # a bare UNet
        ({"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (6, 2)}, 0),  # Flux
        ({}, 0),
    ],
)
def test_other_models_are_of_no_family(shapes, width):
    assert arch_of(shapes) is None
    assert text_width(shapes) == width


@pytest.mark.parametrize(("shapes", "arch"), [(SD15, Arch.SD15), (SDXL, Arch.SDXL), ({}, None)])
def test_a_file_is_read_once(tmp_path, monkeypatch, shapes, arch):
    path = write(tmp_path / "a.safetensors", shapes)
    read = []
    monkeypatch.setattr(checkpoints, "read_shapes", lambda p: read.append(p) or read_shapes(p))
    reader = CheckpointReader()
    assert [reader.arch(path) for _ in range(3)] == [arch] * 3
    assert read == [path]


def test_a_file_that_was_exchanged_is_read_again(tmp_path):
    reader, path = CheckpointReader(), tmp_path / "a.safetensors"
    assert reader.arch(path) is None
    write(path, SD15)
    assert reader.arch(path) is Arch.SD15
    write(path, SDXL)
    os.utime(path, ns=(1, 1))
    assert reader.arch(path) is Arch.SDXL


def test_what_is_read_is_what_the_library_reads(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"one": np.zeros((2, 3), np.float32), "two": np.zeros((), np.int64)}
    save_file({**tensors, "none": np.zeros((0, 4), np.float16)}, path, {"format": "pt"})
    assert read_shapes(path) == {"one": (2, 3), "two": (), "none": (0, 4)}
    save_file({}, path)
    assert read_shapes(path) == {}


def framed(header):
    return len(header).to_bytes(8, "little") + header


BROKEN = {
    "empty": b"",
    "a page": b"<html><body>Not found</body></html>",
    "a huge length": b"\xff" * 64,
    "no JSON": framed(b"{..}"),
    "no text": framed(b"\xff\xfe"),
    "a list": framed(b"[]"),
    "a tensor that is none": framed(b'{"a": 1}'),
    "no offsets": framed(b'{"a": {"shape": [1]}}'),
    "short offsets": framed(b'{"a": {"shape": [1], "data_offsets": [0]}}'),
    "no shape": framed(b'{"a": {"data_offsets": [0, 0]}}'),
    "deep": framed(b"[" * 100_000),
    "shapes of text": framed(b'{"a": {"shape": ["x"], "data_offsets": [0, 0]}}'),
    "cut short": framed(b'{"a": {"shape": [2], "data_offsets": [0, 4]}}') + b"\0\0",
    "something behind": framed(b'{"a": {"shape": [1], "data_offsets": [0, 1]}}') + b"\0\0",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_of_no_family(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert CheckpointReader().arch(path) is None
    with pytest.raises(WeightsError, match=r"a\.safetensors is (damaged|empty|a web page|cut)"):
        read_shapes(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read: "):
        read_shapes(tmp_path)


def test_tensors_are_never_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.safetensors", {**SDXL, "big": (1000, 1000)})
    header = int.from_bytes(path.read_bytes()[:8], "little") + 8
    read = []

    class Counted(io.FileIO):
        def read(self, size=-1):
            found = super().read(size)
            read.append(len(found))
            return found

    def opened(self, mode):
        return Counted(self, mode)

    monkeypatch.setattr(Path, "open", opened)
    assert read_shapes(path)["big"] == (1000, 1000)
    assert sum(read) == header


@pytest.mark.parametrize("name", ["a.ckpt", "a.gguf", "a"])
def test_other_formats_are_never_opened(tmp_path, name):
    path = write(tmp_path / "a.safetensors", SD15).rename(tmp_path / name)
    assert CheckpointReader().arch(path) is None

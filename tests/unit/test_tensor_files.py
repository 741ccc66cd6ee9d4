"""What stands where a safetensors file should, by its bytes and not by its name."""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from safetensors.torch import save

from lib_layerdiffuse.errors import WeightsError
from lib_layerdiffuse.weights.tensor_files import load_tensors, read_header

GOOD = save({"a": torch.arange(6.0)}, {"made": "here"})


def torch_file(**options: object) -> bytes:
    out = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, out, **options)
    return out.getvalue()


OTHERS = {
    "nothing": (b"", "is empty. Download it again."),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "is a Git LFS pointer, not the file itself. Run `git lfs pull`",
    ),
    "page": (b"\n <!DOCTYPE html><html></html>", "is a web page. Download it again"),
    "marked page": (b"\xef\xbb\xbf<html>", "is a web page."),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(90), "is a GGUF file."),
    "pytorch": (torch_file(), "is a pickle. Convert it to safetensors"),
    "old pytorch": (torch_file(_use_new_zipfile_serialization=False), "is a pickle."),
    "oldest pickle": (b"cos\nsystem\n(S'false'\ntR.", "is a pickle."),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle."),
    "cut": (GOOD[:-5], "is cut short: 5 bytes are missing at its end. Download it again."),
    "cut in its header": (GOOD[:20], "is damaged or no safetensors file. Download it again."),
    "longer": (GOOD + b"\0", "is damaged or no safetensors file."),
    "text": (b"not safetensors at all", "is damaged or no safetensors file."),
    "another type": (GOOD.replace(b'"F32"', b'"X32"'), "is damaged or no safetensors file."),
    "an endless number": (
        GOOD.replace(b"here", b"h").replace(b"[0,24]", b"[0,1e999]"),
        "is damaged or no safetensors file.",
    ),
}


@pytest.mark.parametrize(("content", "said"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("name", ["a.safetensors", "a.SAFETENSORS", "a.ckpt"])
def test_what_is_none_is_called_what_it_is(tmp_path, content, said, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_tensors(path)
    assert str(caught.value).startswith(f"{name} {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.safetensors", "a.SAFETENSORS", "a.ckpt", "a"])
def test_one_is_taken_whatever_it_is_called(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(GOOD)
    assert load_tensors(path)["a"].tolist() == [0, 1, 2, 3, 4, 5]
    header = read_header(path)
    assert (header.shapes, header.metadata) == ({"a": (6,)}, {"made": "here"})


def test_messages_use_the_name_that_they_are_given(tmp_path):
    with pytest.raises(WeightsError, match=r"^this one cannot be read: "):
        load_tensors(tmp_path, "this one")

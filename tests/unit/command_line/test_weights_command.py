"""`layerdiffuse weights`: files that are listed, fetched and verified."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
from command_runs import DECODER, done, everything, fails, python
from hub_server import HubServer

from lib_layerdiffuse import methods
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.methods import DECODERS, METHODS
from lib_layerdiffuse.released import WEIGHT_FILES, WeightFile

GOOD = b"the released bytes"
OTHER = b"the released bytes of another file"


@pytest.fixture
def released(monkeypatch) -> dict[str, bytes]:
    """Makes two files of the table small enough to fetch; returns name to bytes."""
    small = {METHODS[0].weights.stem: GOOD, DECODER: OTHER}
    for stem, data in small.items():
        file = WeightFile(stem, hashlib.sha256(data).hexdigest(), len(data))
        monkeypatch.setitem(WEIGHT_FILES, stem, file)
    monkeypatch.setitem(DECODERS, METHODS[0].arch, WEIGHT_FILES[DECODER])
    method = replace(METHODS[0], id="small", weights=WEIGHT_FILES[METHODS[0].weights.stem])
    monkeypatch.setitem(methods.METHOD_NAMES, "small", method)
    return {f"{stem}.safetensors": data for stem, data in small.items()}


def test_list_shows_every_file(capfd, tmp_path, released):
    own, extra = tmp_path / "models" / "layer_model", tmp_path / "extra"
    first, second = released
    for folder in (own, extra):
        folder.mkdir(parents=True)
    (own / first).write_bytes(GOOD)
    (extra / second).write_bytes(b"cut")
    out = done(capfd, "weights", "list", "--extra-dir", extra)
    assert out.startswith("Folder: models/layer_model\n")
    assert re.search(rf"^present +18 B  models/layer_model/{first}$", out, re.MULTILINE)
    wrong = (
        rf"^corrupt +3 B  {extra}/{second}\n +.* not the released file: it has 3 bytes, not .*\.$"
    )
    assert re.search(wrong, out, re.MULTILINE)
    assert len(re.findall(r"^missing .*\.safetensors$", out, re.MULTILINE)) == 12
    assert re.search(r"^missing +3.6 GB  layer_xl_transparent_conv", out, re.MULTILINE)


def test_list_of_named_files_in_the_users_folder(capfd, tmp_path):
    out = done(capfd, "weights", "list", "vae_transparent_encoder.safetensors")
    assert out.splitlines() == [
        f"Folder: {tmp_path}/cache/layerdiffuse",
        "missing     2 MB  vae_transparent_encoder.safetensors",
    ]
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("wanted", [["--method", "small"], [METHODS[0].weights.stem, DECODER]])
def test_fetch(capfd, monkeypatch, tmp_path, released, wanted):
    with HubServer(released) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = tmp_path / "new" / "models"
        out = done(capfd, "weights", "fetch", *wanted, "--models-dir", folder)
        assert out.splitlines() == [f"Folder: {folder}", *(str(folder / name) for name in released)]
        assert {name: (folder / name).read_bytes() for name in released} == released
        again = done(capfd, "weights", "fetch", *wanted, "--models-dir", folder, "--offline")
        assert (again, len(hub.gets)) == (out, 2)


def test_fetch_says_what_fails(capfd, tmp_path, released):
    assert "Say which weight files" in fails(capfd, "weights", "fetch")
    assert "called nobody" in fails(capfd, "weights", "fetch", "nobody")
    assert "There is no method called nobody" in fails(
        capfd, "weights", "fetch", "--method", "nobody"
    )
    assert "downloads are off" in fails(capfd, "weights", "fetch", DECODER, "--offline")
    blocked = tmp_path / "file"
    blocked.touch()
    assert "is no folder" in fails(capfd, "weights", "fetch", DECODER, "--models-dir", blocked)
    assert everything(tmp_path) == {"file": b""}


def test_fetch_of_a_file_that_the_hub_lacks(capfd, monkeypatch, released):
    with HubServer({}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert "HTTP 404" in fails(capfd, "weights", "fetch", DECODER)


def test_verify(capfd, tmp_path, released):
    first, second = released
    (tmp_path / first).write_bytes(GOOD)
    assert done(capfd, "weights", "verify", "--models-dir", tmp_path).splitlines() == [
        f"Folder: {tmp_path}",
        f"present     18 B  {tmp_path / first}",
        "                  the released file, verified",
        "1 checked, 0 bad",
    ]
    (tmp_path / second).write_bytes(bytes(reversed(OTHER)))
    assert main(["weights", "verify", "--models-dir", str(tmp_path)]) == 1
    out = capfd.readouterr().out
    assert "corrupt " in out
    assert out.endswith("2 checked, 1 bad\n")
    assert done(capfd, "weights", "verify", METHODS[0].weights.stem, "--models-dir", tmp_path)


def test_verify_of_a_named_file_that_is_not_there(capfd):
    assert main(["weights", "verify", DECODER]) == 1
    assert capfd.readouterr().out.endswith("1 checked, 1 bad\n")
    assert "0 checked, 0 bad" in done(capfd, "weights", "verify")


@pytest.mark.parametrize("option", ["--models-dir", "--extra-dir"])
@pytest.mark.parametrize("action", ["list", "verify"])
def test_a_folder_that_is_not_there(capfd, action, option):
    assert "There is no folder nowhere" in fails(capfd, "weights", action, option, "nowhere")


@pytest.mark.parametrize(
    "value", ["hub.example", "a.co/x", "ftp://a", "https://", "://", "http://[::1"]
)
def test_a_hub_without_an_address_is_named(capfd, monkeypatch, value):
    monkeypatch.setenv("HF_ENDPOINT", value)
    line = fails(capfd, "weights", "fetch", DECODER, "--models-dir", "new")
    assert f"HF_ENDPOINT is '{value.rstrip('/')}', which is no address." in line


@pytest.mark.parametrize("value", ["", " ", "/"])
def test_an_empty_hub_is_the_ordinary_one(value):
    """Also where it was empty when the library was imported."""
    program = "from lib_layerdiffuse.weights.hub import file_url as f; print(f('a/b', 'c', 'd'))"
    assert python("-c", program, HF_ENDPOINT=value).stdout == (
        "https://huggingface.co/a/b/resolve/c/d\n"
    )

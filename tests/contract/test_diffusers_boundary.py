"""What the libraries raise becomes one line; what they say goes to the log."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from thinned import thinned
from tiny_diffusers import checkpoint, host, load
from transformers.utils import logging as transformers_logging

from lib_layerdiffuse.errors import (
    CodecError,
    HostError,
    LayerDiffuseError,
    SettingsError,
    WeightsError,
)
from lib_layerdiffuse.hosts.diffusers import Sampling, components
from lib_layerdiffuse.hosts.diffusers.boundary import said_by, translated
from lib_layerdiffuse.hosts.diffusers.quiet import quiet
from lib_layerdiffuse.methods import Arch

FOREIGN = [
    OSError("no such thing"),
    ValueError("first line\n\tsecond line " + "x" * 5000),
    KeyError("a.key"),
    TypeError(),
    AttributeError("'NoneType' object has no attribute 'x'"),
    IndexError("list index out of range"),
    AssertionError(),
    NotImplementedError("on this device"),
    RecursionError("too deep"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    SafetensorError("header too large"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. See the docs."),
    ModuleNotFoundError("No module named 'x'"),
]
IDS = {"ids": lambda error: type(error).__name__}


@pytest.mark.parametrize("error", FOREIGN, **IDS)
def test_every_exception_becomes_one_short_line(error):
    with pytest.raises(WeightsError) as caught, translated(WeightsError, "It failed", "Do this."):
        raise error
    said = str(caught.value)
    assert said.startswith("It failed: ")
    assert said.endswith(". Do this.")
    assert "\n" not in said
    assert len(said) < 250
    assert said_by(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [SettingsError("ours"), KeyboardInterrupt(), SystemExit()], **IDS)
def test_ours_and_interrupts_pass(error):
    with pytest.raises(type(error)) as caught, translated(WeightsError, "It failed", ""):
        raise error
    assert caught.value is error


def test_what_a_callback_raised_passes():
    def fail(done: int, total: int) -> bool:
        raise ValueError("theirs")

    with pytest.raises(ValueError, match=r"^theirs$"):
        host(Arch.SD15).sample(replace(sampling(), on_step=fail))


def sampling() -> Sampling:
    return Sampling(["a cat"], [""], [1], 64, 64, 2, 1.0, "Euler")


@pytest.mark.parametrize("error", thinned(FOREIGN, 7), **IDS)
def test_wherever_a_library_fails_there_is_one_line(error, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    one = host(Arch.SD15)
    monkeypatch.setattr(one.pipeline.unet, "forward", fail)
    monkeypatch.setattr(one.pipeline.vae, "encode", fail)
    monkeypatch.setattr(one.pipeline.vae, "decode", fail)
    calls = {
        "Sampling failed": lambda: one.sample(sampling()),
        "The VAE could not encode": lambda: one.posterior(torch.zeros(1, 3, 64, 64)),
        "The VAE could not decode": lambda: one.pixels(torch.zeros(1, 4, 8, 8)),
    }
    of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    for said, call in calls.items():
        full = of_memory and "VAE" in said  # Which is tried in less and less memory.
        wanted = "The memory is full: the VAE does not fit" if full else f"{said}: "
        with pytest.raises(CodecError if full else HostError, match=f"^{wanted}"):
            call()
    monkeypatch.setattr(components.CLIPTextModel, "from_pretrained", fail)
    monkeypatch.setattr(components, "create_diffusers_clip_model_from_ldm", fail)
    with pytest.raises(LayerDiffuseError, match="could not be loaded: "):
        load(Arch.SD15, checkpoint(Arch.SD15))


def chatter() -> None:
    diffusers_logging.get_logger("diffusers.pipelines.x").error("one word")
    transformers_logging.get_logger("transformers.models.x").warning("two words")
    logging.getLogger("huggingface_hub.x").error("three words")
    warnings.warn("four words", FutureWarning, stacklevel=1)


def test_chatter_goes_to_the_log_alone(capfd, caplog):
    library = logging.getLogger("transformers")
    before = list(library.handlers), library.propagate, warnings.showwarning
    with caplog.at_level(logging.INFO), quiet():
        chatter()
    noted = [r for r in caplog.records if r.name.startswith("lib_layerdiffuse")]
    assert {record.levelno for record in noted} == {logging.INFO}
    for words in ("one word", "two words", "three words", "four words"):
        assert any(words in record.getMessage() for record in noted)
    assert capfd.readouterr() == ("", "")
    assert (list(library.handlers), library.propagate, warnings.showwarning) == before


def test_loading_and_sampling_are_silent(capfd, monkeypatch):
    one = load(Arch.SD15)
    forward = one.pipeline.unet.forward

    def chatting(*args: object, **kwargs: object) -> object:
        chatter()
        return forward(*args, **kwargs)

    monkeypatch.setattr(one.pipeline.unet, "forward", chatting)
    one.pixels(one.sample(sampling()))
    sys.stderr.flush()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow  # It starts an interpreter that imports all libraries.
def test_importing_is_silent():
    code = "import lib_layerdiffuse.hosts.diffusers"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")

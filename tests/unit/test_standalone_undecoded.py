"""A job without a WebUI gives what it has sampled, whatever becomes of its transparency."""

from __future__ import annotations

import json
from itertools import count

import numpy as np
import pytest

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from PIL import Image
from tiny_diffusers import host, layer_folder
from tiny_weights import CountingStore

from lib_layerdiffuse import cli, tiny
from lib_layerdiffuse.methods import DECODERS, Arch, find_method
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.output import OutputFolder
from lib_layerdiffuse.standalone.run import DECODING, run

JOINT = find_method("joint_sd15")


@pytest.fixture
def break_decoder(monkeypatch):
    """Returns what makes the decoder's network raise at its calls from the n-th to the last."""
    forward = UNet1024.forward

    def at(error, start=0, end=10**9):
        calls = count()

        def run(net, *args):
            if start <= next(calls) < end:
                raise error
            return forward(net, *args)

        monkeypatch.setattr(UNet1024, "forward", run)

    return at


def made(sets=1, on_progress=None, **settings):
    settings = LayerSettings(method=JOINT, **settings)
    job = Generation(settings, "a cat", width=64, height=72, steps=1, sampler="Euler a", sets=sets)
    session = Session(CountingStore(layer_folder()))
    layers = run(job, session, host(Arch.SD15), on_progress=on_progress)
    return job, layers


def channels(layers):
    return [layer.image.shape[2] for layer in layers]


def test_without_memory_each_foreground_is_rgb_with_its_latent(break_decoder):
    break_decoder(MemoryError())
    _, layers = made(sets=2)
    assert channels(layers) == [3] * 6
    assert [layer.latent is not None for layer in layers] == [True, False, False] * 2
    assert layers[0].latent.shape == (4, 9, 8)
    assert "The memory is full" in layers[0].note
    assert not any(layer.interrupted for layer in layers)


def test_a_retry_is_told(break_decoder):
    break_decoder(MemoryError(), end=1)
    _, layers = made()
    assert channels(layers) == [4, 3, 3]
    assert "took a single view" in layers[0].note
    assert layers[0].latent is None


def test_an_interrupt_while_decoding_keeps_what_is_sampled(break_decoder):
    break_decoder(KeyboardInterrupt(), start=10)  # In the second set's foreground.
    _, layers = made(sets=3)
    assert channels(layers) == [4, 3, 3, 3, 3, 3, 3, 3, 3]
    foregrounds = layers[::3]
    assert [one.interrupted for one in foregrounds] == [False, True, True]
    assert [one.latent is not None for one in foregrounds] == [False, True, True]
    assert "interrupted" in foregrounds[1].note


def test_stopping_by_progress_keeps_the_views_so_far():
    _, layers = made(sets=2, on_progress=lambda stage, *_: stage != DECODING)
    assert channels(layers) == [4, 3, 3, 3, 3, 3]
    assert layers[0].interrupted
    assert layers[3].latent is not None


def test_other_faults_are_raised(break_decoder):
    break_decoder(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        made()


def test_the_latents_file_stands_beside_the_image_and_is_named_like_it(break_decoder, tmp_path):
    break_decoder(MemoryError())
    job, layers = made(show_matte=True, show_composite=True)
    saved = OutputFolder(tmp_path).save(layers, job.settings)
    assert [one.path.name for one in saved] == [f"00000-{n}-{x}.png" for n, x in NAMES]
    assert [one.latent for one in saved] == [tmp_path / "00000-0-fg.safetensors", None, None]
    told = saved[0].as_dict()
    assert told["latent"] == str(saved[0].latent)
    assert "stays RGB" in told["note"]
    assert not {"latent", "note"} & saved[1].as_dict().keys()


NAMES = ((0, "fg"), (1, "bg"), (2, "blended"))


def command(folder, *more):
    return cli.main(
        [
            *("generate", "--method", JOINT.id, "--prompt", "a cat", "--seed", "7"),
            *("--steps", "2", "--out", str(folder), *more),
        ]
    )


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError(), 0), (KeyboardInterrupt(), 130)], ids=["memory", "Ctrl-C"]
)
def test_the_command_saves_and_decode_makes_of_it_what_was_wanted(
    break_decoder, tmp_path, capsys, error, status
):
    assert command(tmp_path / "whole") == 0
    break_decoder(error)
    assert command(tmp_path / "out", "--json") == status
    out, err = capsys.readouterr()
    assert "stays RGB" in err
    told = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
    break_decoder(error, end=0)
    files = {
        "--pixels": told["path"],
        "--latent": told["latent"],
        "--decoder": tiny.layer_store().ensure(DECODERS[Arch.SD15]),
        "--out": tmp_path / "rgba.png",
    }
    assert cli.main(["decode", *(str(x) for pair in files.items() for x in pair)]) == 0
    (wanted,) = (tmp_path / "whole").glob("*-fg.png")
    found, wanted = (np.asarray(Image.open(p)).astype(int) for p in (files["--out"], wanted))
    assert np.abs(found - wanted)[..., 3].max() <= 8  # Its pixels have 8 bits.

"""A job without a WebUI gives what it has sampled, whatever becomes of its transparency."""

from __future__ import annotations

import json
from itertools import count

import numpy as np
import pytest

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from diffusers import AutoencoderKL
from kept_session import KeptSession
from PIL import Image
from safetensors.torch import load_file
from tiny_diffusers import host, layer_folder

from lib_layerdiffuse import cli, tiny
from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.hosts.diffusers import DiffusersHost
from lib_layerdiffuse.methods import DECODERS, Arch, find_method
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone import output
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.output import OutputFolder
from lib_layerdiffuse.standalone.run import DECODING, run
from lib_layerdiffuse.weights.store import WeightStore

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
    session = KeptSession(WeightStore(layer_folder(), offline=True))
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
@pytest.mark.slow
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


@pytest.fixture
def break_vae(monkeypatch):
    """Returns what makes the VAE's decoder raise from its n-th call on."""
    decode = AutoencoderKL.decode

    def at(error, start=0):
        calls = count()

        def run(net, *args):
            if start <= next(calls):
                raise error
            return decode(net, *args)

        monkeypatch.setattr(AutoencoderKL, "decode", run)

    return at


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(MemoryError(), 2, "The memory is full: the VAE"), (KeyboardInterrupt(), 130, "interrupted")],
    ids=["memory", "Ctrl-C"],
)
@pytest.mark.slow
def test_sets_that_the_vae_cannot_decode_are_kept_as_latents(
    break_vae, tmp_path, capsys, monkeypatch, error, status, said
):
    """The third image of the first set is the first that fails: the whole set has none."""
    break_vae(error, start=5)
    assert command(tmp_path, "--sets", "3", "--json") == status
    out, err = capsys.readouterr()
    assert [json.loads(line)["layer"] for line in out.splitlines()] == ["fg", "bg", "blended"]
    assert said in err
    kept = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    sets = [(1, range(10, 13)), (2, range(13, 16))]
    layers = ("fg", "bg", "blended")
    assert kept == sorted(
        f"{number:05}-{seed}-{layer}.safetensors"
        for number, seeds in sets
        for seed, layer in zip(seeds, layers, strict=True)
    )
    assert "00001-10-fg.safetensors and 5 more beside it" in err
    latent = load_file(tmp_path / kept[0])["latent"]
    assert latent.shape[0] == 4


def test_an_interrupt_while_sampling_keeps_the_sets_before_it(tmp_path, capsys, monkeypatch):
    sample, calls = DiffusersHost.sample, count()

    def interrupted(one, sampling):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return sample(one, sampling)

    monkeypatch.setattr(DiffusersHost, "sample", interrupted)
    assert command(tmp_path, "--sets", "4", "--quiet") == 130
    assert len(list(tmp_path.glob("*.safetensors"))) == 6
    assert "is kept as a latent in" in capsys.readouterr().err


def test_what_a_full_disk_does_not_take_is_saved_elsewhere(monkeypatch, tmp_path, capsys):
    write, other = output.write_png, tmp_path / "temporary"
    other.mkdir()
    calls = count()

    def full(path, *args):
        if path.parent != other and next(calls) >= 2:
            raise SettingsError(f"{path} could not be written: No space left.", "Free it.")
        return write(path, *args)

    monkeypatch.setattr(output, "write_png", full)
    monkeypatch.setattr(output, "mkdtemp", lambda prefix: str(other))
    assert command(tmp_path / "out") == 2
    assert sorted(path.name for path in other.glob("*.png")) == sorted(
        f"00000-{7 + n}-{layer}.png" for n, layer in NAMES
    )
    said = f"No space left. What was made is in {other} instead. Free it."
    assert said in capsys.readouterr().err


def test_an_image_beside_the_layers_that_does_not_fit_is_told(monkeypatch, tmp_path):
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(output, "true_composite", full)
    job, layers = made(show_composite=True, show_matte=True)
    monkeypatch.setattr(output, "foreground_extras", full)
    saved = OutputFolder(tmp_path).save(layers, job.settings)
    assert [one.path.name for one in saved] == [f"00000-{n}-{x}.png" for n, x in NAMES]
    assert "beside the layers is missing: the memory is full" in saved[0].image.note


def test_a_document_of_an_undecoded_foreground_is_left_out_and_told(
    break_decoder, tmp_path, capsys
):
    break_decoder(MemoryError())
    assert command(tmp_path, "--layers", "psd,zip", "--sets", "2") == 0
    out, err = capsys.readouterr()
    assert not [*tmp_path.glob("*.psd"), *tmp_path.glob("*.zip")]
    assert out.count("\n") == 6
    assert "there are no psd and zip files of set 1" in err
    assert "its latent stands in 00000-7-fg.safetensors" in err
    assert "00001-10-fg.safetensors" in err

"""`layerdiffuse decode` and `encode`, and one line for every error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_runs import ROOT, done, everything, fails
from safetensors.torch import load_file, save_file
from thinned import thinned
from tiny_codec import tiny_decoder_weights, tiny_encoder_weights

from lib_layerdiffuse.cli import main
from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder, rgba_u8
from lib_layerdiffuse.errors import OverflowsError
from lib_layerdiffuse.imaging.images import pad_colours
from lib_layerdiffuse.methods import DECODERS, METHODS

SIDE = 64


def write(path: Path, pixels: np.ndarray) -> Path:
    """Writes grey, RGB or RGBA pixels of 8 or 16 bits as a PNG."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    assert cv2.imwrite(str(path), pixels)
    return path


def noise(channels: int, dtype: type = np.uint8, side: int = SIDE) -> np.ndarray:
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.fixture
def job(tmp_path) -> dict[str, Path]:
    """The options of a `decode` that works."""
    torch.manual_seed(0)
    save_file({"latent": torch.randn(4, SIDE // 8, SIDE // 8)}, tmp_path / "latent.safetensors")
    save_file(tiny_decoder_weights(), tmp_path / "decoder.safetensors")
    return {
        "--pixels": write(tmp_path / "rgb.png", noise(3)),
        "--latent": tmp_path / "latent.safetensors",
        "--decoder": tmp_path / "decoder.safetensors",
        "--out": tmp_path / "rgba.png",
    }


@pytest.fixture
def picture_job(tmp_path) -> dict[str, Path]:
    """The options of an `encode` that works."""
    save_file(tiny_encoder_weights(), tmp_path / "encoder.safetensors")
    return {
        "--image": write(tmp_path / "rgba.png", noise(4)),
        "--encoder": tmp_path / "encoder.safetensors",
        "--out": tmp_path / "offset.safetensors",
    }


def options(job: dict[str, Path]) -> list[object]:
    return [part for option in job.items() for part in option]


def rgba_of(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint8
    return pixels[..., [2, 1, 0, 3]]


def decoded(job: dict[str, Path], pixels: np.ndarray, views: int, dtype: torch.dtype) -> np.ndarray:
    """What the codec itself makes of float RGB pixels."""
    codec = TransparentDecoder.from_state_dict(load_file(job["--decoder"]), dtype=dtype)
    rgb = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    return rgba_u8(codec.decode(rgb, load_file(job["--latent"])["latent"][None], views=views))[0]


@pytest.mark.parametrize(("views", "dtype"), [(8, "float32"), (1, "float32"), (2, "bfloat16")])
def test_decode_is_the_codecs_result(capfd, job, views, dtype):
    out = done(capfd, "decode", *options(job), "--views", views, "--dtype", dtype)
    assert out == f"Wrote {job['--out']}\n"
    expected = decoded(job, noise(3) / 255, views, getattr(torch, dtype))
    np.testing.assert_array_equal(rgba_of(job["--out"]), expected)


@pytest.mark.parametrize(
    "pixels",
    [noise(1), noise(3, np.uint16), np.dstack([noise(3), np.full((SIDE, SIDE), 255, np.uint8)])],
    ids=["grey", "16 bits", "opaque alpha"],
)
def test_decode_of_other_pictures(capfd, job, pixels):
    write(job["--pixels"], pixels)
    done(capfd, "decode", *options(job), "--views", 1)
    rgb = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels[..., :3]
    expected = decoded(job, rgb / np.iinfo(pixels.dtype).max, 1, torch.float32)
    np.testing.assert_array_equal(rgba_of(job["--out"]), expected)


def test_decode_replaces_a_picture_with_usual_permissions(capfd, job):
    job["--out"].write_bytes(b"old")
    done(capfd, "decode", *options(job), "--views", 1)
    umask = os.umask(0)
    os.umask(umask)
    assert job["--out"].stat().st_mode & 0o777 == 0o666 & ~umask
    assert rgba_of(job["--out"]).shape == (SIDE, SIDE, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_encode_is_the_encoders_result(capfd, picture_job, channels, dtype):
    pixels = noise(channels, dtype)
    write(picture_job["--image"], pixels)
    done(capfd, "encode", *options(picture_job))
    rgba = np.ones((SIDE, SIDE, 4), np.float32)
    colours = pixels.reshape(SIDE, SIDE, -1).astype(np.float32) / np.iinfo(dtype).max
    rgba[..., : max(3, channels)] = colours
    codec = TransparentEncoder.from_state_dict(load_file(picture_job["--encoder"]))
    expected = codec.offset(torch.from_numpy(pad_colours(rgba)).permute(2, 0, 1)[None])[0]
    saved = load_file(picture_job["--out"])
    assert list(saved) == ["offset"]
    assert saved["offset"].shape == (4, SIDE // 8, SIDE // 8)
    assert saved["offset"].dtype == torch.float32
    torch.testing.assert_close(saved["offset"], expected, rtol=0, atol=0)


def test_encode_turns_a_photo_upright(capfd, picture_job):
    picture_job["--image"] = ROOT / "tests" / "data" / "exif6.jpg"
    done(capfd, "encode", *options(picture_job))
    assert load_file(picture_job["--out"])["offset"].shape == (4, 32 // 8, 16 // 8)


def test_encode_reads_the_transparency_of_a_clear_grey(capfd, picture_job):
    picture_job["--image"] = ROOT / "tests" / "data" / "grey8_trns_16x16.png"
    done(capfd, "encode", *options(picture_job))
    saved = load_file(picture_job["--out"])["offset"]
    codec = TransparentEncoder.from_state_dict(load_file(picture_job["--encoder"]))
    grey = cv2.imread(str(picture_job["--image"]), cv2.IMREAD_GRAYSCALE)
    rgba = np.dstack([grey / np.float32(255)] * 3 + [grey != 0]).astype(np.float32)
    expected = codec.offset(torch.from_numpy(pad_colours(rgba)).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(saved, expected, rtol=0, atol=0)


def latent(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda path: save_file(tensors, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def rubbish(path: Path) -> None:
    path.write_bytes(b"rubbish" * 9)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no picture": ("--pixels", Path.unlink, "There is no file "),
    "a folder": ("--pixels", folder, "rgb.png is a folder. Name a file."),
    "rubbish": ("--pixels", rubbish, "not an image that can be read (its kind is unknown). Use a"),
    "empty": ("--pixels", empty, "not an image that can be read (it is empty)."),
    "a cut picture": ("--pixels", cut, "rgb.png is damaged or cut off. Save,"),
    "transparent": (
        "--pixels",
        lambda p: write(p, noise(4)),
        "is transparent, but a VAE makes opaque images.",
    ),
    "odd size": (
        "--pixels",
        lambda p: write(p, noise(3, side=60)),
        "multiples of 8, and are 60×60.",
    ),
    "other size": (
        "--pixels",
        lambda p: write(p, noise(3, side=72)),
        "the latent that of one of 64×64",
    ),
    "no latent": ("--latent", Path.unlink, "latent.safetensors. Check the name."),
    "a cut latent": ("--latent", cut, "latent.safetensors is "),
    "an empty latent": ("--latent", empty, "latent.safetensors is empty."),
    "no safetensors": ("--latent", rubbish, "is damaged or no safetensors file."),
    "other tensor": ("--latent", latent(a=torch.ones(4, 8, 8)), "no tensor `latent`"),
    "a batch": ("--latent", latent(latent=torch.ones(1, 4, 8, 8)), "but is float32 [1, 4, 8, 8]."),
    "whole numbers": (
        "--latent",
        latent(latent=torch.ones(4, 8, 8).int()),
        "is int32 [4, 8, 8].",
    ),
    "16 channels": ("--latent", latent(latent=torch.ones(16, 8, 8)), "but is float32 [16, 8, 8]."),
    "NaN": ("--latent", latent(latent=torch.full((4, 8, 8), torch.nan)), "NaN or infinity"),
    "no decoder": ("--decoder", Path.unlink, "There is no file "),
    "a cut decoder": ("--decoder", cut, "decoder.safetensors is "),
    "an encoder": (
        "--decoder",
        lambda p: save_file(tiny_encoder_weights(), p),
        f"Use {DECODERS[METHODS[0].arch].filename}",
    ),
    "a device": (
        "--pixels",
        lambda p: (p.unlink(), p.symlink_to(os.devnull)),
        "is no ordinary file",
    ),
    "out is a folder": ("--out", folder, "is no file"),
}


@pytest.mark.parametrize("fault", thinned(FAULTS, 2))
def test_decode_says_what_is_wrong(capfd, job, tmp_path, fault):
    option, spoil, said = FAULTS[fault]
    spoil(job[option])
    before = everything(tmp_path)
    assert said in fails(capfd, "decode", *options(job))
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--out", "rgba.jpg"], "--out must end in .png, but is rgba.jpg."),
        (["--out", "rgb.png/rgba.png"], "rgb.png/rgba.png could not be written:"),
        (["--out", f"{'x' * 300}.png"], "File name too long"),
        (["--device", "nowhere"], "--device: there is no device called 'nowhere' here."),
        (["--dtype", "int8"], "invalid choice"),
    ],
)
def test_decode_refuses_options(capfd, job, tmp_path, extra, said):
    before = everything(tmp_path)
    assert said in fails(capfd, "decode", *options(job), *extra)
    assert everything(tmp_path) == before


def test_decode_makes_the_folder(capfd, job, tmp_path):
    job["--out"] = tmp_path / "new" / "folder" / "rgba.png"
    assert main(["decode", *map(str, options(job))]) == 0
    assert job["--out"].read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in job["--out"].parent.iterdir()] == ["rgba.png"]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("no such kernel\nat length"), 2, "failed: no such kernel. Try"),
        (
            OSError(28, "No space left on device"),
            2,
            "could not be written: No space left on device.",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_nothing_half_written_is_left(capfd, monkeypatch, job, tmp_path, error, status, said):
    def fail(*_: object, **__: object) -> None:
        raise error

    job["--out"].write_bytes(b"old")
    before = everything(tmp_path)
    monkeypatch.setattr(TransparentDecoder, "decode", fail)
    assert main(["decode", *map(str, options(job))]) == status
    assert re.fullmatch(rf"layerdiffuse: [^\n]*{said}[^\n]*\n", capfd.readouterr().err)
    assert everything(tmp_path) == before


def test_what_cannot_be_compiled_is_told(capfd, monkeypatch, job):
    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("Compiler: cl is not found.")

    monkeypatch.setattr(torch, "compile", refuses)
    assert main(["decode", *map(str, options(job)), "--views", "2", "--compiled"]) == 0
    (told,) = capfd.readouterr().err.splitlines()
    assert "could not be compiled (Compiler: cl is not found)" in told
    expected = decoded(job, noise(3) / 255, 2, torch.float32)
    np.testing.assert_array_equal(rgba_of(job["--out"]), expected)


@pytest.mark.parametrize("error", [RuntimeError("out of memory\nat length"), MemoryError()])
def test_without_memory_less_is_tried(capfd, monkeypatch, job, error):
    asked = []

    def fail(_: object, *images: object, **ways: object) -> None:
        asked.append((ways["views"], ways["tile"]))
        raise error

    monkeypatch.setattr(TransparentDecoder, "decode", fail)
    assert main(["decode", *map(str, options(job))]) == 2
    (failed,) = capfd.readouterr().err.splitlines()
    assert "The memory is full: the transparent decoder does not fit" in failed
    assert asked == [(8, None), (1, None)]
    assert not job["--out"].exists()


def test_what_overflows_in_half_is_computed_in_float32(capfd, monkeypatch, picture_job):
    offset = TransparentEncoder.offset

    def overflow(codec: TransparentEncoder, *images: object, **ways: object) -> torch.Tensor:
        if next(codec.net.parameters()).dtype is torch.bfloat16:
            raise OverflowsError("It holds NaN.")
        return offset(codec, *images, **ways)

    monkeypatch.setattr(TransparentEncoder, "offset", overflow)
    command = ["encode", *map(str, options(picture_job))]
    assert main([*command, "--dtype", "bfloat16"]) == 0
    assert "overflowed in half precision" in capfd.readouterr().err
    found = load_file(picture_job["--out"])["offset"]
    assert main(command) == 0
    assert torch.equal(found, load_file(picture_job["--out"])["offset"])


def test_a_closed_folder_is_told_before_the_work(capfd, monkeypatch, job):
    def work(*_: object, **__: object) -> None:
        pytest.fail("It worked for nothing.")

    monkeypatch.setattr(TransparentDecoder, "from_state_dict", work)
    refuse(monkeypatch, "xb")
    assert "could not be written: Permission denied. Choose a folder" in fails(
        capfd, "decode", *options(job)
    )


def test_a_picture_that_may_not_be_read(capfd, monkeypatch, job):
    refuse(monkeypatch, "rb")
    assert "rgb.png cannot be read: Permission denied. Allow reading it." in fails(
        capfd, "decode", *options(job)
    )


def refuse(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Makes opening files in one mode fail, as it does for people other than root."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        if mode == refused:
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize(
    ("option", "spoil", "said"),
    [
        ("--image", Path.unlink, "There is no file "),
        ("--image", cut, "is damaged or cut off."),
        ("--image", lambda p: write(p, noise(4, side=60)), "multiples of 8, and are 60×60."),
        ("--encoder", rubbish, "is damaged or no safetensors file."),
        ("--encoder", lambda p: save_file(tiny_decoder_weights(), p), "Use layer_sd15_vae_"),
        ("--out", folder, "is no file"),
    ],
)
def test_encode_says_what_is_wrong(capfd, picture_job, tmp_path, option, spoil, said):
    spoil(picture_job[option])
    before = everything(tmp_path)
    assert said in fails(capfd, "encode", *options(picture_job))
    assert everything(tmp_path) == before


def test_encode_wants_a_safetensors_name(capfd, picture_job):
    picture_job["--out"] = Path("offset.pt")
    assert "must end in .safetensors" in fails(capfd, "encode", *options(picture_job))

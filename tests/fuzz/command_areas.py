"""Commands with malformed files and options: what each area of the command line is given."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import tiny_diffusers
import torch
from mutations import argument, number, spoilt, spoilt_json, spoilt_tensors
from PIL import Image
from safetensors.torch import load_file, save
from tiny_codec import tiny_decoder_weights, tiny_encoder_weights
from torch import Tensor

from lib_layerdiffuse.methods import METHODS, Arch

SIDE = 64
_TENSORS = ("latent", "decoder", "encoder", "lora")
_SAMPLING = ("--size", "--sets", "--seed", "--steps", "--cfg", "--weight", "--stop-at")
_NAMED = ("--sampler", "--resize-mode", "--dtype", "--offload", "--layers", "--prediction")
_NAMES = (
    "euler",
    "CROP",
    "FILL",
    "float64",
    "Float16",
    "model",
    "psd,ora,zip",
    "psd,,",
    "V",
    "eps",
)
_TEXTS = (
    "--prompt",
    "--negative-prompt",
    "--fg-prompt",
    "--bg-negative-prompt",
    "--blended-prompt",
)
_FLAGS = ("--preview", "--matte", "--composite", "--raw", "--json", "--trim", "--quiet")
_LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
_FAST = ("--steps", "1", "--cfg", "1", "--quiet", "--out", "out")


@dataclass
class Files:
    """Files that are as they should be, and where malformed ones go.

    Attributes:
        folder: The current folder.
        data: Image files by name.
        tensors: Weight files by name.
        checkpoints: A diffusers folder of each family.
    """

    folder: Path
    data: dict[str, bytes] = field(default_factory=dict)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    checkpoints: dict[Arch, Path] = field(default_factory=dict)

    def image(self, rng: Random, *, whole: float = 0.3) -> str:
        """Returns the path of an image, whole or not."""
        name = rng.choice(list(self.data))
        if rng.random() < 0.1:
            return rng.choice(("absent.png", ".", argument(rng), "/dev/null", name * 40))
        data = self.data[name]
        (self.folder / name).write_bytes(data if rng.random() < whole else spoilt(rng, data))
        return name

    def weights(self, rng: Random, name: str, *, whole: float = 0.3) -> str:
        """Returns the path of a weight file, whole or not."""
        if rng.random() < 0.06:
            return rng.choice(("absent.safetensors", ".", argument(rng), "/dev/null"))
        other = rng.choice(_TENSORS) if rng.random() < 0.05 else name
        tensors = self.tensors[other]
        data = save(tensors) if rng.random() < whole else spoilt_tensors(rng, tensors)
        path = self.folder / f"{name}.{rng.choice(('safetensors', 'SAFETENSORS', 'bin', 'ckpt'))}"
        path.write_bytes(data)
        return path.name


def files_in(folder: Path) -> Files:
    """Returns whole files of every kind; malformed ones will lie in the folder."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    rgba, deep = Image.fromarray(noise), Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    rgb = rgba.convert("RGB")
    kinds = {
        "a.png": (rgba, "PNG", {}),
        "rgb.png": (rgb, "PNG", {}),
        "deep.png": (deep, "PNG", {}),
        "palette.png": (rgb.quantize(8), "PNG", {"transparency": 1}),
        "a.jpg": (rgb, "JPEG", {}),
        "a.webp": (rgba, "WEBP", {}),
        "a.tif": (rgba, "TIFF", {}),
        "a.gif": (rgb.quantize(8), "GIF", {}),
        "a.bmp": (rgb, "BMP", {}),
    }
    files = Files(folder)
    for name, (image, kind, options) in kinds.items():
        with io.BytesIO() as stream:
            image.save(stream, format=kind, **options)
            files.data[name] = stream.getvalue()
    known = Path(__file__).parents[1] / "data"
    files.data |= {path.name: path.read_bytes() for path in known.glob("*.[jp][pn]g")}
    generator = torch.Generator().manual_seed(0)
    files.tensors = {
        "latent": {"latent": torch.randn(4, SIDE // 8, SIDE // 8, generator=generator)},
        "decoder": tiny_decoder_weights(),
        "encoder": tiny_encoder_weights(),
        "lora": _lora(),
    }
    for arch in Arch:  # Now, since a host is loaded where no other small family is lent.
        files.checkpoints[arch] = tiny_diffusers.folder() / f"fuzz-{arch.name}"
        tiny_diffusers.host(arch).pipeline.save_pretrained(files.checkpoints[arch])
    return files


def _lora() -> dict[str, Tensor]:
    """Returns a LoRA of two layers of the small SD1.5 checkpoint, each in a spelling of its own."""
    wide, inner = tiny_diffusers.host(Arch.SD15).pipeline.unet.get_submodule(_LAYER).weight.shape
    up, down, flat = torch.ones(wide, 2) / 9, torch.ones(2, inner), _LAYER.replace(".", "_")
    return {
        f"lora_unet_{flat}.lora_up.weight": up,
        f"lora_unet_{flat}.lora_down.weight": down,
        f"lora_unet_{flat}.alpha": torch.tensor(2.0),
        f"diffusion_model.{_LAYER.replace('to_k', 'to_v')}.lora_B.weight": up.clone(),
        f"diffusion_model.{_LAYER.replace('to_k', 'to_v')}.lora_A.weight": down.clone(),
    }


def decode(rng: Random, files: Files) -> list[str]:
    """Returns a `decode`."""
    spoilt_one = rng.randrange(4)
    command = ["decode", "--pixels", files.image(rng, whole=0.2 if spoilt_one == 0 else 1)]
    command += ["--latent", files.weights(rng, "latent", whole=0.1 if spoilt_one == 1 else 1)]
    command += ["--decoder", files.weights(rng, "decoder", whole=0.1 if spoilt_one == 2 else 1)]
    views = number(rng) if spoilt_one == 3 else "1"
    return [*command, "--out", _out(rng, "rgba.png"), f"--views={views}", *_place(rng)]


def encode(rng: Random, files: Files) -> list[str]:
    """Returns an `encode`."""
    command = ["encode", "--image", files.image(rng, whole=0.3)]
    command += ["--encoder", files.weights(rng, "encoder", whole=0.7)]
    return [*command, "--out", _out(rng, "offset.safetensors"), *_place(rng)]


def _out(rng: Random, name: str) -> str:
    odd = ("out.txt", "", ".", "/dev/full/x", "a.png/b.png", "x" * 300 + ".png", "\udcff.png")
    return rng.choice(odd) if rng.random() < 0.1 else name


def _place(rng: Random) -> list[str]:
    if rng.random() < 0.9:
        return []
    names = ("cuda:99", "foo", "meta", "CPU", "cpu:1", "float64", "")
    return [f"--{rng.choice(('device', 'dtype'))}={rng.choice(names)}"]


def generate(rng: Random, files: Files) -> list[str]:
    """Returns a `generate`, seldom one that draws."""
    method = rng.choice(METHODS)
    name = argument(rng) if rng.random() < 0.05 else rng.choice((method.id, method.label))
    command = ["generate", f"--method={name}", *_FAST]
    for layer in method.inputs if rng.random() < 0.9 else ():
        command += [f"--{layer.value}={files.image(rng, whole=0.6)}"]
    return command + _options(rng, files, "--init", "--denoise", "--fg", "--bg")


def chain(rng: Random, files: Files) -> list[str]:
    """Returns a `chain`, seldom one that draws."""
    given = rng.choice(("fg", "bg"))
    direction = f"{given}-to-{'bg' if given == 'fg' else 'fg'}"
    command = ["chain", argument(rng) if rng.random() < 0.05 else direction, *_FAST]
    command += [f"--{given}={files.image(rng, whole=0.3)}"]
    return command + _options(rng, files, "--second-sampler", "--second-stop-at")


def _options(rng: Random, files: Files, *own: str) -> list[str]:
    """Returns one to three options with values that are mostly malformed."""
    made: list[str] = []
    for _ in range(rng.randint(1, 3)):
        option = rng.choice((*_SAMPLING, *_NAMED, *_TEXTS, *_FLAGS, *own, *own, "--lora", "--x"))
        if option in _FLAGS:
            made.append(option)
        elif option in ("--init", "--fg", "--bg"):
            made.append(f"{option}={files.image(rng)}")
        elif option == "--lora":
            made.append(f"{option}={files.weights(rng, 'lora')}{rng.choice(_WEIGHTS)}")
        elif option in _NAMED and rng.random() < 0.7:
            made.append(f"{option}={rng.choice(_NAMES)}")
        else:
            odd = argument(rng) if option in _TEXTS else number(rng)
            made.append(f"{option}={'2' if odd.strip() in ('1e3', '64') else odd}")
    return made


_WEIGHTS = ("", ":1", ":0.5", ":0", ":-1", ":nan", ":inf", ":1e39", ":x", ":", "::1")


def loras(rng: Random, files: Files) -> list[str]:
    """Returns a `generate` with a LoRA's file that is mostly malformed."""
    file = files.weights(rng, "lora", whole=0.05)
    weight = rng.choice(_WEIGHTS) if rng.random() < 0.3 else ""
    return ["generate", "--method=fg_attn_sd15", *_FAST, f"--lora={file}{weight}"]


def checkpoints(rng: Random, files: Files) -> list[str]:
    """Returns a `generate` with a checkpoint that has been spoilt in one place."""
    arch = Arch.SD15 if rng.random() < 0.7 else Arch.SDXL
    path = (_spoilt_file if rng.random() < 0.3 else _spoilt_folder)(rng, files, arch)
    method = "fg_attn_sd15" if arch is Arch.SD15 else "fg_attn_sdxl"
    folder = str(tiny_diffusers.layer_folder())
    command = ["generate", f"--method={method}", *_FAST, "--offline", "--models-dir", folder]
    more = [f"--prediction={rng.choice(('eps', 'v', 'x0'))}"] if rng.random() < 0.1 else []
    return [*command, f"--checkpoint={path}", "--size=64x64", *more]


def _spoilt_file(rng: Random, files: Files, arch: Arch) -> Path:
    tensors = load_file(tiny_diffusers.checkpoint(arch))
    path = files.folder / "model.safetensors"
    path.write_bytes(spoilt_tensors(rng, tensors))
    return path


def _spoilt_folder(rng: Random, files: Files, arch: Arch) -> Path:
    path = files.folder / "model"
    shutil.copytree(files.checkpoints[arch], path, copy_function=_link)
    file = rng.choice(sorted(one for one in path.rglob("*") if one.is_file()))
    data = file.read_bytes()
    file.unlink()
    if rng.random() < 0.15:
        return path
    if file.suffix == ".json":
        file.write_bytes(spoilt_json(rng, data))
    elif file.suffix == ".safetensors" and rng.random() < 0.6:
        whole = files.checkpoints[arch] / file.relative_to(path)
        file.write_bytes(spoilt_tensors(rng, load_file(whole)))
    else:
        file.write_bytes(spoilt(rng, data))
    return path


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def bench_alpha(rng: Random, files: Files) -> list[str]:
    """Returns a `bench-alpha`, seldom one that measures."""
    command = ["bench-alpha", "--quiet"]
    if rng.random() < 0.7:
        files.image(rng, whole=0.6)
        command.append(rng.choice((".", ".", ".", "absent", argument(rng))))
    for _ in range(rng.randint(0, 2)):
        name, odd = rng.choice(("views", "dtype", "tile", argument(rng))), number(rng)
        command.append(f"--setting={name}={rng.choice(('1', 'float16', '64', odd))}")
    option = rng.choice(("size", "strength", "family", "checkpoint", "out", "x"))
    if rng.random() < 0.4:
        value = rng.choice(("64", "sdxl", "out", number(rng)))
        command.append(f"--{option}={'64' if value in ('1e3', '64x64') else value}")
    return [*command, f"--drawn={number(rng)}"] if rng.random() < 0.2 else [*command, "--drawn=1"]


AREAS: dict[str, Callable[[Random, Files], list[str]]] = {
    "decode": decode,
    "encode": encode,
    "generate": generate,
    "chain": chain,
    "checkpoints": checkpoints,
    "loras": loras,
    "bench-alpha": bench_alpha,
}
"""By name: what makes the arguments of one command."""

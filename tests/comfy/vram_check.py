# ruff: noqa: E402 - What is imported is found by the path that is set before.
"""Runs methods in a real ComfyUI's server on a GPU, with dynamic VRAM, in less than ten minutes.

    python tests/comfy/vram_check.py COMFYUI [--python PYTHON] [--weights FOLDER] [--cpu]
        [--families SD1.5 SDXL] [--size 512] [--steps 20]

For SD1.5 all layers at once with a user's LoRA, for SDXL a foreground to a blended image that stops
at half the schedule: each twice, with a plain run before, between and after. Each run is sampled
anew, and one of a kind has to be bit for bit what the first was. Weights are random ones of the
real shapes, written where they are missing. With `--cpu`, a small size and few steps it is a
rehearsal of the script, but for dynamic VRAM.

Args:
    COMFYUI: Folder of its checkout.
    --python: Its interpreter, by default ``venv/bin/python`` there.
    --weights: Folder for the random weights, by default `model_cache`'s.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("", "tests/fakes", "tests/e2e", "tests/comfy")]

import numpy as np
from comfy_server import ComfyClient, ComfyServer
from graphs import CHECKPOINT, SAVED, Graph, apart, drawn_noise
from model_cache import cache_folder
from random_loras import write_lora
from random_weights import CHECKPOINTS, LAYER_WEIGHTS, Pool, write_file
from real_comfy import ComfyUI

from lib_layerdiffuse.methods import Arch, find_method
from lib_layerdiffuse.weights.checksums import sha256_of

METHOD = {Arch.SD15: find_method("joint_sd15"), Arch.SDXL: find_method("fg_to_blended_sdxl")}
STOP_AT = {Arch.SD15: 1.0, Arch.SDXL: 0.5}
ORDER = ("plain", "method", "plain", "method", "plain")
ENABLED = "DynamicVRAM support detected and enabled"


def weights(folder: Path, base: Path, archs: list[Arch]) -> dict[str, list[Path]]:
    """Returns the files that the runs need, by ComfyUI's folder; missing ones are written."""
    pool, found = Pool(), {"checkpoints": [], "layer_model": []}
    for arch in archs:
        checkpoint, layers = CHECKPOINT[arch], METHOD[arch].weights.filename
        for name, kind, specs in (
            (checkpoint, "checkpoints", CHECKPOINTS),
            (layers, "layer_model", LAYER_WEIGHTS),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_file(folder / kind / name, specs[name], pool)
            found[kind].append(folder / kind / name)
    sums = base / "SHA256SUMS"
    sums.write_text("".join(f"{sha256_of(one)}  {one.name}\n" for one in found["layer_model"]))
    loras = [write_lora(base / "loras", Arch.SD15)]
    return found | {"layer_model": [*found["layer_model"], sums], "loras": loras}


def run(client: ComfyClient, arch: Arch, kind: str, number: int, given: Namespace) -> np.ndarray:
    """Returns the latent of a run, whose noise has a name of its own so that nothing is cached."""
    method = METHOD[arch]
    rows = method.frames
    file = f"{arch.name}{number}.latent"
    noise = client.put_latent(file, drawn_noise(arch, rows, given.size // 8))
    graph = Graph(CHECKPOINT[arch], noise)
    if kind == "method":
        if arch is Arch.SD15:
            graph.model = graph.lora("random_lora.safetensors", graph.model)
        graph.method(method, graph.images(method), stop_at=STOP_AT[arch])
    done = client.run(graph.save(graph.sample(steps=given.steps)))
    print(f"{arch.value} {kind}: {done.seconds:.1f} s", flush=True)
    return client.latent(done, SAVED)


def check(client: ComfyClient, arch: Arch, given: Namespace) -> None:
    """Checks that each run of a kind is the same, and that the method acts."""
    first: dict[str, Any] = {}
    for number, kind in enumerate(ORDER):
        found = run(client, arch, kind, number, given)
        assert np.isfinite(found).all(), f"{arch.value} {kind} {number} is not finite"
        same = np.array_equal(first.setdefault(kind, found), found)
        assert same, f"{arch.value} {kind} {number}: {apart(found, first[kind]):.2g} apart"
    change = apart(first["method"], first["plain"])
    assert change > 1e-2, f"{METHOD[arch].id} does nothing"
    print(f"{METHOD[arch].id}: bit for bit twice; {change:.2g} of the largest from plain")


def main() -> None:
    """Runs all."""
    parser = ArgumentParser()
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--weights", type=Path, default=cache_folder())
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--families", nargs="+", default=[arch.value for arch in Arch])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    folder = given.comfyui.resolve()
    comfyui = ComfyUI(folder, given.python or folder / "venv" / "bin" / "python")
    archs = [Arch(name) for name in given.families]
    with TemporaryDirectory() as made:
        base = Path(made)
        files = weights(given.weights, base, archs)
        arguments = ["--cpu", "--fp16-unet"] if given.cpu else []
        with ComfyServer(comfyui, base / "comfyui", files, *arguments) as server:
            dynamic = ENABLED in server.log
            print(f"dynamic VRAM: {'on' if dynamic else 'off'}")
            assert dynamic is not given.cpu, server.log[-2000:]
            client = ComfyClient(server)
            client.put_layers(given.size)
            for arch in archs:
                check(client, arch, given)


if __name__ == "__main__":
    main()

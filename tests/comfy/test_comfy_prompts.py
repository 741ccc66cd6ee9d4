"""Prompts in a real ComfyUI's server, with random weights of the real shapes.

Environment:
    LAYERDIFFUSE_COMFY_E2E: If set, these tests run: 7 GB of memory with SD1.5, 13 with SDXL.
    LAYERDIFFUSE_E2E_CACHE, LAYERDIFFUSE_E2E_FAMILIES: As in `model_cache`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from comfy_server import ComfyClient, ComfyServer, Done, NodeError
from graphs import CHECKPOINT, SAVED, Graph, apart, drawn_noise
from layers import SCALES, SIZE
from model_cache import cache_folder, families, of_families, skip_without, write_all
from random_loras import write_lora
from random_weights import CHECKPOINTS, LAYER_WEIGHTS, SD15
from real_comfy import ComfyUI

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod, find_method

pytestmark = pytest.mark.skipif(
    not os.environ.get("LAYERDIFFUSE_COMFY_E2E"),
    reason="prompts in ComfyUI's server: LAYERDIFFUSE_COMFY_E2E not set",
)
KEPT = Path(__file__).parents[1] / "e2e" / "forge_latents.npz"
CLOSE = 2e-3
"""How far from Forge's the latents may be, as a part of the largest."""
FG = {Arch.SD15: find_method("fg_attn_sd15"), Arch.SDXL: find_method("fg_attn_sdxl")}
JOINT, SDXL_BLENDED = find_method("joint_sd15"), find_method("fg_to_blended_sdxl")
ROUND = {
    Arch.SD15: [method for method in METHODS if method.arch is Arch.SD15],
    Arch.SDXL: [FG[Arch.SDXL], SDXL_BLENDED],
}
FLAT = 1.05
"""By how much the server's memory may grow in a second round of the same."""
_numbers = count()


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[Arch, Path]:
    """A user's LoRA for each family."""
    folder = tmp_path_factory.mktemp("loras")
    return {arch: write_lora(folder, arch) for arch in families()}


@pytest.fixture(scope="module")
def server(
    comfyui: ComfyUI, loras: dict[Arch, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """ComfyUI with this pack; the UNet's weights are held as in the file, in half precision."""
    cache = cache_folder()
    write_all(cache)
    sums = cache / "layer_model" / "SHA256SUMS"
    models = {
        "checkpoints": [cache / "checkpoints" / name for name in of_families(CHECKPOINTS)],
        "layer_model": [*(sums.parent / name for name in of_families(LAYER_WEIGHTS)), sums],
        "loras": list(loras.values()),
    }
    base = tmp_path_factory.mktemp("comfyui")
    with ComfyServer(comfyui, base, models, "--cpu", "--fp16-unet") as started:
        print(f"log of the server: {started.log_path}")
        yield started


@pytest.fixture(scope="module")
def client(server: ComfyServer) -> ComfyClient:
    """A client of the server, which has the images that methods start from."""
    client = ComfyClient(server)
    client.put_layers(SIZE)
    return client


def noise(client: ComfyClient, arch: Arch, rows: int) -> str:
    """Returns a new file of noise, that nothing has cached."""
    return client.put_latent(f"noise{next(_numbers)}.latent", drawn_noise(arch, rows))


def graph(client: ComfyClient, arch: Arch = Arch.SD15, rows: int = 1) -> Graph:
    """Returns a graph that has no more than checkpoint, prompts and noise."""
    skip_without(CHECKPOINT[arch])
    return Graph(CHECKPOINT[arch], noise(client, arch, rows))


def latents(client: ComfyClient, graph: Graph, sampled: str, arch: Arch = Arch.SD15) -> np.ndarray:
    """Returns the latent of a sampler, sampler's scale."""
    return client.latent(client.run(graph.save(sampled)), SAVED) * SCALES[arch]


def plain(client: ComfyClient, arch: Arch = Arch.SD15) -> np.ndarray:
    """Returns what the checkpoint alone draws, sampled anew."""
    made = graph(client, arch)
    return latents(client, made, made.sample(), arch)


def drawn(client: ComfyClient, method: LayerMethod) -> np.ndarray:
    """Returns a set that a method draws."""
    made = graph(client, method.arch, method.frames)
    made.method(method, made.images(method))
    return latents(client, made, made.sample(), method.arch)


def compare(name: str, found: np.ndarray) -> None:
    """Checks a latent against Forge's of that name."""
    said = apart(found, np.load(KEPT)[name])
    print(f"{name}: {said:.2g} of the largest apart")
    assert said < CLOSE


@pytest.mark.parametrize("arch", Arch, ids=lambda arch: arch.name)
def test_a_plain_picture_is_that_of_forge(client: ComfyClient, arch: Arch) -> None:
    compare(f"plain {arch.name}", plain(client, arch))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.id)
def test_latents_are_those_of_forge(client: ComfyClient, method: LayerMethod) -> None:
    """ComfyUI's VAE encodes without noise, Forge's with what random ones have: hardly any."""
    compare(f"txt2img {method.id}", drawn(client, method))


def decoded(client: ComfyClient, arch: Arch) -> Done:
    """Returns what the outputs of a decoded foreground gave."""
    made = graph(client, arch)
    chosen = made.method(FG[arch], {})
    sampled = made.sample()
    of = {"samples": (sampled, 0), "layers": (chosen, 1), "vae": made.vae, "views": 1}
    decoded = made.add("LayerDiffuseDecode", **of)
    made.add("SaveImage", "image", images=(decoded, 0), filename_prefix="fg")
    made.add("SaveImage", "none", images=(decoded, 1), filename_prefix="bg")
    made.add("PreviewAny", "report", source=(decoded, 4))
    return client.run(made.save(sampled))


@pytest.mark.parametrize("arch", Arch, ids=lambda arch: arch.name)
def test_a_foreground_is_saved_with_its_alpha(client: ComfyClient, arch: Arch) -> None:
    done = decoded(client, arch)
    (image,) = client.images(done, "image")
    assert image.shape == (64, 64, 4)
    assert image[..., 3].std() > 5
    assert "none" not in done.outputs
    assert done.outputs["report"]["text"][0].startswith("Foreground 1: transparent")


def test_three_prompts_are_rows_of_one_conditioning(client: ComfyClient) -> None:
    texts = {"fg_cond": "a ball", "bg_cond": "a lake, " * 40, "blended_cond": "a ball on a lake"}
    found = []
    for way in ("inputs", "rows", "old node", "none"):
        made = graph(client, rows=3)
        own = {name: made.prompt(text) for name, text in texts.items()}
        if way == "old node":
            config = "SD15, attn_sharing, Batch size (3N)"
            old = made.add("LayeredDiffusionJointApply", model=made.model, config=config, **own)
            made.model = old, 0
        else:
            made.method(JOINT, own if way == "inputs" else {})
        if way == "rows":
            given = {"cond": made.positive, "method": JOINT.label}
            made.positive = made.add("LayerDiffusePrompts", **given, **own), 0
        found.append(latents(client, made, made.sample()))
    inputs, rows, old, none = found
    assert apart(rows, inputs) < 1e-5
    np.testing.assert_array_equal(old, inputs)
    assert apart(none, inputs) > 1e-2


@pytest.mark.parametrize(
    "method", [FG[Arch.SD15], JOINT, SDXL_BLENDED], ids=lambda method: method.id
)
def test_stop_at_is_a_sampler_with_it_and_one_without(
    client: ComfyClient, method: LayerMethod
) -> None:
    """Of four steps, two are above the sigma of half the schedule."""

    def with_it(stop_at: float = 1.0) -> Graph:
        made = graph(client, method.arch, method.frames)
        made.method(method, made.images(method), stop_at=stop_at)
        return made

    made = with_it(0.5)
    stopped = latents(client, made, made.sample(steps=4), method.arch)
    made = with_it()
    first = made.sample(steps=4, end_at_step=2, return_with_leftover_noise="enable")
    second = made.sample((made.loaded, 0), (first, 0), steps=4, start_at_step=2)
    assert apart(latents(client, made, second, method.arch), stopped) < 1e-5
    made = with_it()
    assert apart(latents(client, made, made.sample(steps=4), method.arch), stopped) > 1e-3


def with_lora(client: ComfyClient, name: str, *, first: bool) -> np.ndarray:
    """Returns what is drawn with a LoRA and a method, the LoRA's node before it or after."""
    made = graph(client)
    if first:
        made.model = made.lora(name, made.model)
    made.method(FG[Arch.SD15], {})
    if not first:
        made.model = made.lora(name, made.model)
    return latents(client, made, made.sample())


def test_a_users_lora_comes_and_goes(client: ComfyClient, loras: dict[Arch, Path]) -> None:
    skip_without(SD15)
    name = loras[Arch.SD15].name
    before = plain(client)
    made = graph(client)
    made.model = made.lora(name, made.model)
    alone = latents(client, made, made.sample())
    below, above = (with_lora(client, name, first=first) for first in (True, False))
    made = graph(client)
    made.method(FG[Arch.SD15], {})
    without = latents(client, made, made.sample())
    np.testing.assert_array_equal(plain(client), before)
    np.testing.assert_array_equal(below, above)
    assert min(apart(below, alone), apart(below, without), apart(alone, before)) > 1e-2


def test_an_interrupt_leaves_nothing(client: ComfyClient, server: ComfyServer) -> None:
    before = plain(client)
    made = graph(client, rows=3)
    made.method(JOINT, {}, stop_at=0.9)
    waiting = client.queue(made.save(made.sample(steps=47)))
    until = time.monotonic() + 300
    while "1/47" not in server.log:
        assert time.monotonic() < until
        time.sleep(0.2)
    client.interrupt()
    assert client.wait(waiting).interrupted
    np.testing.assert_array_equal(plain(client), before)


def test_a_batch_of_no_whole_sets_is_told_on_the_sampler(client: ComfyClient) -> None:
    made = graph(client, rows=2)
    made.method(JOINT, {})
    with pytest.raises(NodeError, match="multiple of 3") as refused:
        latents(client, made, made.sample())
    assert refused.value.node == "KSamplerAdvanced"


def test_a_method_of_sdxl_comes_and_goes(client: ComfyClient) -> None:
    before = plain(client, Arch.SDXL)
    found = drawn(client, SDXL_BLENDED)
    assert apart(found, before) > 1e-2
    np.testing.assert_array_equal(plain(client, Arch.SDXL), before)
    np.testing.assert_array_equal(drawn(client, SDXL_BLENDED), found)


@pytest.mark.parametrize("arch", Arch, ids=lambda arch: arch.name)
def test_memory_is_flat(client: ComfyClient, server: ComfyServer, arch: Arch) -> None:
    """Methods come and go twice, and an image is decoded."""
    most = []
    for _ in range(2):
        held = []
        for method in ROUND[arch]:
            drawn(client, method)
            held.append(server.memory())
        decoded(client, arch)
        most.append(max(*held, server.memory()))
    told = " and ".join(f"{memory / 2**30:.2f} GiB" for memory in most)
    print(f"{arch.name}: at most {told} after each prompt")
    assert most[1] < most[0] * FLAT, told

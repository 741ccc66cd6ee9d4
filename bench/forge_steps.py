"""Times UNet steps in Forge's own interpreter; `bench_sharing.py` starts it and prints its JSON.

Run with the WebUI's folder as working directory and on `sys.path`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

REPEATS = 4
FRAMES = {"fg_attn_sd15": 1, "bg_to_fg_sd15": 2, "joint_sd15": 3}


class NaiveLayer:
    """One shared attention as its definition reads: LoRAs added at each call, frames in a loop."""

    def __init__(self, file: dict[str, Tensor], slot: int, frames: int) -> None:
        key = f"hookers.layers.{slot}."
        self.w = {k.removeprefix(key): t for k, t in file.items() if k.startswith(key)}
        self.frames = frames

    def linear(self, base: Any, name: str, f: int, x: Tensor) -> Tensor:
        up, down = (self.w[f"to_{name}_lora.{f}.{part}.weight"] for part in ("up", "down"))
        bias = None if base.bias is None else base.bias.to(x)
        return F.linear(x, base.weight.to(x) + up @ down, bias)

    def temporal(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"temporal_{name}.weight"], self.w[f"temporal_{name}.bias"])

    def __call__(self, module: Any, x: Tensor, context: Tensor | None, signal: Tensor | None):
        frames, heads = self.frames, module.heads
        h = x.unflatten(0, (-1, frames)).clone()
        c = h if context is None else context.unflatten(0, (-1, frames))
        for f in range(frames):
            if signal is not None:
                conv = F.conv2d(signal, *self.conv(f, 0), padding=1)
                added = F.conv2d(F.silu(conv), *self.conv(f, 2))
                h[:, f] += added.flatten(2).transpose(1, 2)
            q = self.linear(module.to_q, "q", f, h[:, f])
            k = self.linear(module.to_k, "k", f, c[:, f])
            v = self.linear(module.to_v, "v", f, c[:, f])
            out = attend(q, k, v, heads)
            h[:, f] += self.linear(module.to_out[0], "out", f, out)
        tokens = h.transpose(1, 2).flatten(0, 1)
        norm = self.w["temporal_n.weight"], self.w["temporal_n.bias"]
        inner = self.temporal("i", F.layer_norm(tokens, tokens.shape[-1:], *norm, 1e-6))
        mixed = attend(*(self.temporal(n, inner) for n in "qkv"), heads)
        tokens = tokens + self.temporal("o", mixed)
        h = tokens.unflatten(0, (h.shape[0], -1)).transpose(1, 2)
        return h.flatten(0, 1) - x

    def conv(self, f: int, i: int) -> tuple[Tensor, Tensor]:
        return self.w[f"control_convs.{f}.{i}.weight"], self.w[f"control_convs.{f}.{i}.bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Bench:
    """A loaded SD1.5 checkpoint and the extension's own way to attach a method to it."""

    def __init__(self, checkpoint: Path, weights: Path, size: int) -> None:
        from modules import shared

        shared.opts = SimpleNamespace(emphasis="Original")  # All that loading a model asks for.
        from backend.loader import forge_loader

        from lib_layerdiffuse.hosts.detect import webui_host
        from lib_layerdiffuse.pipeline import Session
        from lib_layerdiffuse.weights.store import WeightStore

        self.model = forge_loader(str(checkpoint))
        self.plain = self.model.forge_objects.unet
        self.host = webui_host()(self.model)
        self.session = Session(WeightStore(weights, offline=True))
        self.size = size
        self.device, self.dtype = self.plain.load_device, self.plain.model.computation_dtype

    def inputs(self, images: int) -> dict[str, Any]:
        torch.manual_seed(0)
        rows, side = 2 * images, self.size // 8
        x, text = torch.randn(rows, 4, side, side) * 5, torch.randn(rows, 77, 768)
        return {
            "input": x.to(self.device),
            "timestep": torch.full((rows,), 5.0, device=self.device),
            "c": {"c_crossattn": text.to(self.device), "transformer_options": {}},
            "cond_or_uncond": [1, 0],
        }

    def load(self) -> Any:
        from backend.sampling.sampling_function import sampling_prepare

        unet = self.model.forge_objects.unet
        sampling_prepare(unet, torch.zeros(1, 4, self.size // 8, self.size // 8))
        return unet

    def step(self, images: int) -> Callable[[], Tensor]:
        unet = self.load()
        wrapper = unet.model_options.get("model_function_wrapper")
        args = self.inputs(images)

        def run() -> Tensor:
            if wrapper is None:
                return unet.model.apply_model(args["input"], args["timestep"], **args["c"])
            return wrapper(unet.model.apply_model, args)

        return run

    def settings(self, method_id: str, stop_at: float = 1.0) -> Any:
        from lib_layerdiffuse.methods import find_method
        from lib_layerdiffuse.settings.layer_settings import LayerSettings

        image = torch.rand(self.size, self.size, 3).numpy()
        method = find_method(method_id)
        return LayerSettings(True, method, stop_at=stop_at, fg_image=image, bg_image=image)

    def attach(self, method_id: str, stop_at: float = 1.0) -> None:
        from lib_layerdiffuse.pipeline import inject

        self.model.forge_objects.unet = self.plain
        settings = self.settings(method_id, stop_at)
        injection = inject(settings, self.session, self.host, self.size, self.size)
        self.model.forge_objects.unet = self.host.attach(injection).unet

    def detach(self) -> None:
        self.model.forge_objects.unet = self.plain

    def naive(self, method_id: str) -> tuple[Callable[[], Tensor], Callable[[], None]]:
        """Returns the same step in the naive arrangement, and what takes it off again."""
        from backend.utils import get_attr

        from lib_layerdiffuse.methods import find_method
        from lib_layerdiffuse.nets.attention_sharing import BLOCK_LEVELS
        from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

        method = find_method(method_id)
        file = self.session.store.load(method.weights)
        file = {name: tensor.to(self.device, self.dtype) for name, tensor in file.items()}
        encoder = self.session.weights(self.settings(method_id)).sharing.encoder
        image = torch.rand(1, 3, self.size, self.size) * 2 - 1
        signals = encoder and encoder(image.to(self.device, self.dtype))
        modules = [get_attr(self.plain.model.diffusion_model, slot) for slot in ATTENTION_SLOTS]
        for slot, module in enumerate(modules):
            layer = NaiveLayer(file, slot, method.frames)
            signal = signals and signals[BLOCK_LEVELS[slot // 2]]

            def forward(x, context=None, *_, module=module, layer=layer, signal=signal, **__):
                return layer(module, x, context, signal)

            module.forward = forward
        self.detach()

        def remove() -> None:
            for module in modules:
                del module.forward

        return self.step(method.frames), remove


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Returns the smallest time of a call, after one that is not counted."""
    run()
    return min(once(run) for _ in range(repeats))


def once(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(bench: Bench) -> dict[str, Any]:
    out: dict[str, Any] = {"steps": {}, "setup": {}}
    for method_id, frames in FRAMES.items():
        bench.detach()
        plain = seconds(bench.step(frames))
        first = once(lambda method_id=method_id: bench.attach(method_id))
        run = bench.step(frames)
        first_step = once(run)
        ours = seconds(run)
        second = once(lambda method_id=method_id: bench.attach(method_id))
        run = bench.step(frames)
        second_step = once(run)
        run, remove = bench.naive(method_id)
        naive = seconds(run)
        remove()
        out["steps"][method_id] = {"plain": plain, "ours": ours, "naive": naive}
        out["setup"][method_id] = {
            "first": first + first_step - ours,
            "second": second,
            "second_step_extra": second_step - ours,
        }
        print(method_id, out["steps"][method_id], out["setup"][method_id], file=sys.stderr)
    out["stop_at"] = stop_at(bench)
    return out


def stop_at(bench: Bench) -> dict[str, float]:
    """Times one step on each side of stop-at 0.5, as half of a run each, against stop-at 1."""
    times = {}
    for value in (1.0, 0.5):
        bench.attach("joint_sd15", value)
        unet = bench.load()
        wrapper = unet.model_options["model_function_wrapper"]
        args = bench.inputs(3)
        late = args | {"timestep": torch.full_like(args["timestep"], 0.2)}
        wrapper(unet.model.apply_model, args)
        times[str(value)] = min(
            once(lambda: [wrapper(unet.model.apply_model, a) for a in (args, late)])  # noqa: B023
            for _ in range(REPEATS)
        )
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("forge", "extension", "checkpoint", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    options, host_arguments = parser.parse_known_args()
    sys.path[:0] = [str(options.forge), str(options.extension)]
    sys.path.append(str(options.forge / "packages_3rdparty"))
    sys.path.append(str(options.forge / "repositories" / "huggingface_guess"))
    sys.argv = ["bench", *host_arguments]
    with torch.inference_mode():
        bench = Bench(options.checkpoint, options.weights, options.size)
        print(json.dumps(measure(bench)))


if __name__ == "__main__":
    main()

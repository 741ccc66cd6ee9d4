"""A small checkpoint in a host with a patcher, and ways to use it."""

from __future__ import annotations

import copy
from functools import cache
from inspect import signature

import torch
from tiny_weights import method_file

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.methods import PatchKind
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import read_patches

HIGH, LOW = 10.0, 0.1
"""Sigmas."""


class Run:
    def __init__(self, tiny, detect):
        self.tiny, self.host_of = tiny, detect.webui_host()

    def open(self, method):
        self.checkpoint = self.tiny.Checkpoint(method.arch.value)
        self.plain = self.checkpoint.forge_objects.unet
        self.host = self.host_of(self.checkpoint)
        self.before = self.snapshot()
        return self

    def attach(self, method, **more):
        self.open(method)
        return self.load(injection(method, **more))

    def load(self, given):
        """Attaches an injection and does what the host does before it samples."""
        self.attachment = self.host.attach(given)
        self.unet = self.checkpoint.forge_objects.unet = self.attachment.unet
        self.tiny.load_for_sampling(self.unet)
        return self

    def add_lora(self, key, patch, **more):
        """Puts a user's LoRA on the host's UNet."""
        written = self.host.dialect.write(patch)
        if "filename" in signature(self.plain.add_patches).parameters:
            more["filename"] = f"user {key}"
        self.plain.add_patches(patches={key: written}, **more)

    @property
    def merges(self):
        """How often the host has changed the UNet's weights."""
        loader = getattr(self.plain, "lora_loader", None)
        return self.plain.model.merges if loader is None else loader.merges

    def snapshot(self):
        model, merges_by_name = self.plain.model, hasattr(self.plain, "lora_loader")
        return {
            "parameters": {k: (id(p), p.clone()) for k, p in model.named_parameters()},
            "options": copy.deepcopy(self.plain.model_options),
            "patches": dict(self.plain.lora_patches if merges_by_name else self.plain.patches),
            "extras": list(self.plain.extra_model_patchers_during_sampling),
            "forwards": [n for n, m in model.named_modules() if "forward" in vars(m)],
            "functions": [n for n, m in model.named_modules() if getattr(m, "weight_function", ())],
        }

    def assert_as_before(self):
        """Checks the caller's UNet, once the host has loaded it again for a plain run."""
        self.tiny.load_for_sampling(self.plain)
        now, before = self.snapshot(), self.before
        for key in ("options", "patches", "extras", "forwards", "functions"):
            assert now[key] == before[key], key
        assert list(now["parameters"]) == list(before["parameters"])
        for name, (identity, value) in before["parameters"].items():
            if hasattr(self.plain, "lora_loader"):  # The others make new ones of the same data.
                assert now["parameters"][name][0] == identity, name
            assert torch.equal(now["parameters"][name][1], value), name

    def inputs(self, frames, sets=1):
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(sets * frames, 4, 8, 8, generator=generator)
        rows = [[f"{name} {i}" for i in range(len(x))] for name in ("negative", "prompt")]
        return x, [self.tiny.conditioning(prompts) for prompts in rows]

    def call(self, sigma, *, unet=None, frames=1, sets=1):
        return self.tiny.call_unet(unet or self.unet, *self._at(sigma, frames, sets))

    def _at(self, sigma, frames, sets):
        x, rows = self.inputs(frames, sets)
        return x, sigma, rows


_file = cache(method_file)


def injection(method, *, strength=1.0, stop_at=1.0, seed=0, **more):
    tensors = _file(method, seed)
    made = (
        {"patches": read_patches(tensors, method)}
        if method.patch is PatchKind.WEIGHTS
        else {"sharing": AttentionSharing.from_state_dict(tensors, strength)}
    )
    generator = torch.Generator().manual_seed(9)
    if method.concat_channels:
        made["concat"] = torch.randn(1, method.concat_channels, 8, 8, generator=generator)
    if method.uses_control:
        made["control"] = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    return Injection(method, stop_at, f"{method.id} {seed}", strength, **made | more)


def near(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())

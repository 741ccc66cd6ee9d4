"""A small checkpoint in ComfyUI, as nodes are given it, and ways to use it."""

from __future__ import annotations

from importlib import import_module

import patcher_run
import torch
from host_run import HIGH, LOW

SCHEDULE = (HIGH, 0.4, 0.6, LOW)
"""Parts of a schedule, with a step back to more noise."""


class Run(patcher_run.Run):
    """As in `HostRun`.

    Attributes:
        plain: The MODEL without a method.
        unet: The one that is sampled.
    """

    def __init__(self):
        self.tiny = import_module("tiny_checkpoint")
        self.parts = import_module("patcher_parts")
        self.samplers = import_module("comfy.samplers")
        self.adapter = import_module("lib_layerdiffuse.hosts.comfy")
        self.dialect = import_module("lib_layerdiffuse.hosts.comfy.comfy_dialect").dialect()
        self._merge = self.parts.MERGE
        self.memory_error = self.parts.memory.OOM_EXCEPTION

    def host_of(self, family, *, channels=4):
        checkpoint = self.checkpoint = self.tiny.Checkpoint(family)
        unet = checkpoint.forge_objects.unet
        self.parts.configure(unet.model, family)
        if channels != 4:
            conv = torch.nn.Conv2d(channels, self.tiny.CHANNELS, 3, padding=1)
            unet.model.diffusion_model.input_blocks[0][0] = conv
        return self.adapter.ComfyHost(self.dialect, unet, checkpoint.forge_objects.vae)

    def load(self, given):
        self.host.model = self.plain
        self.attachment = self.host.attach(given)
        self._put(self.attachment.unet)
        return self

    def _load(self, unet):
        self.samplers.load_for_sampling(unet)

    @staticmethod
    def _extras(unet):
        return [one for found in unet.additional_models.values() for one in found]

    def snapshot(self):
        return super().snapshot() | {
            "hooks": [n for n, m in self.net.named_modules() if m._forward_hooks],
            "pre-hooks": [n for n, m in self.net.named_modules() if m._forward_pre_hooks],
            "wrappers": dict(self.plain.wrappers),
        }

    def assert_as_before(self, before=None):
        before = before or self.before
        super().assert_as_before(before)
        now = self.snapshot()
        for key in ("hooks", "pre-hooks", "wrappers"):
            assert now[key] == before[key], key

    def call_unet(self, unet, x, done, prompts, negatives=()):
        sigma = self.tiny.Predictor().percent_to_sigma(done)
        texts = [self.tiny.conditioning(of) for of in (negatives, prompts) if of]
        found = self.samplers.call_unet(unet, x, min(sigma, 14.6), texts)
        return torch.cat(found.split(len(x))[::-1])

    def sample(self, unet, done, frames=1, sets=1):
        """Returns what a sampler makes with a MODEL, in calls at these parts of the schedule."""
        rows = [f"row {i}" for i in range(frames * sets)]
        texts = [self.tiny.conditioning([f"{of} {row}" for row in rows]) for of in ("not", "a")]
        sigmas = [min(self.tiny.Predictor().percent_to_sigma(one), 14.6) for one in done]
        noise = torch.randn(len(rows), 4, 8, 8, generator=torch.Generator().manual_seed(3))
        return self.samplers.CFGGuider(unet).sample(noise, sigmas, texts)

    def break_attaching(self, patch, error):
        def fail(*_):
            raise error

        patch.setattr(type(self.plain), "add_wrapper_with_key", fail)


def model_with(run, method, **more):
    """Returns a MODEL with a method, that no sampler has used yet."""
    run.open(method)
    return run.host.attach(run.injection(method, **more)).unet

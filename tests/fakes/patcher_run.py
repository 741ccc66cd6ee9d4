"""A small checkpoint in a host with a patcher, and ways to use it."""

from __future__ import annotations

import copy
from importlib import import_module
from inspect import signature
from types import SimpleNamespace

import sharing as reference
import torch
from host_run import BLOCK, HIGH, LOW, HostRun, averages, deltas_of, injection, merge_into, near

from lib_layerdiffuse.weights.patches import Diff

__all__ = ["HIGH", "LOW", "Run", "injection", "near"]


class Run(HostRun):
    """As in `HostRun`.

    Attributes:
        plain: The patcher that runs without a method.
        unet: The one that the host has now.
    """

    kinds = (
        *(f"{BLOCK}.norm1.{name}" for name in ("weight", "bias")),
        f"{BLOCK}.attn1.to_k.weight",
        *(f"{BLOCK}.attn2.to_out.0.{name}" for name in ("weight", "bias")),
        *(f"diffusion_model.middle_block.0.conv.{name}" for name in ("weight", "bias")),
    )

    def __init__(self):
        self.tiny = import_module("tiny_checkpoint")
        self.made = import_module("lib_layerdiffuse.hosts.detect").webui_host()
        parts = import_module("patcher_parts")
        self._merge = parts.MERGE
        kind = parts.memory.OOM_EXCEPTION
        if kind is not Exception:  # Some hosts have no kind of their own.
            self.memory_error = kind

    def host_of(self, family, **more):
        """Returns the adapter's object; `more` are its arguments and the checkpoint's channels."""
        checkpoint = self.checkpoint = self.tiny.Checkpoint(family)
        net = checkpoint.forge_objects.unet.model.diffusion_model
        channels = more.pop("channels", 4)
        if channels != 4:
            net.input_blocks[0][0] = torch.nn.Conv2d(channels, self.tiny.CHANNELS, 3, padding=1)
        return self.made(checkpoint, **more)

    def open(self, method, lora=None, **more):
        self.host = self.host_of(method.arch.value, **more)
        self.unet = self.plain = self._first = self.checkpoint.forge_objects.unet
        self.before = self.snapshot()
        if lora:
            self.put_lora(lora)
        return self

    def put_lora(self, lora):
        self.plain = self._first
        if lora:
            self.plain = self._first.clone()
            written = {key: self.host.dialect.write(Diff(delta)) for key, delta in lora.items()}
            self._add(self.plain, "user", written)
        self._put(self.plain)
        self.before = self.snapshot()

    def add_lora(self, key, patch, **more):
        """Puts a patch of a user's LoRA on the very patcher that runs without a method."""
        written = self.host.dialect.write(patch)
        self._add(self.plain, f"user {key}", {key: written}, **more)

    @staticmethod
    def _add(patcher, name, written, **more):
        if "filename" in signature(patcher.add_patches).parameters:
            more["filename"] = name
        patcher.add_patches(patches=written, **more)

    def load(self, given):
        self.attachment = self.host.attach(given)
        self._put(self.attachment.unet)
        return self

    def end(self):
        self.attachment.detach()
        self._put(self.plain)

    def _put(self, unet):
        self.unet = self.checkpoint.forge_objects.unet = unet
        self._load(unet)

    @staticmethod
    def _extras(unet):
        return unet.extra_model_patchers_during_sampling

    def _load(self, unet):
        self.tiny.load_for_sampling(unet)

    @property
    def net(self):
        return self.plain.model

    def layer(self, name):
        return self.net.get_submodule(name)

    def last_layer(self):
        return self.net.diffusion_model.out

    @property
    def merges(self):
        """How often the host has changed the UNet's weights."""
        loader = getattr(self.plain, "lora_loader", None)
        return self.net.merges if loader is None else loader.merges

    def snapshot(self):
        model, merges_by_name = self.plain.model, hasattr(self.plain, "lora_loader")
        return {
            "parameters": {k: (id(p), p.clone()) for k, p in model.named_parameters()},
            "options": copy.deepcopy(self.plain.model_options),
            "patches": dict(self.plain.lora_patches if merges_by_name else self.plain.patches),
            "extras": list(self._extras(self.plain)),
            "forwards": [n for n, m in model.named_modules() if "forward" in vars(m)],
            "functions": [n for n, m in model.named_modules() if getattr(m, "weight_function", ())],
        }

    def assert_as_before(self, before=None):
        """Checks the caller's UNet, once the host has loaded it again for a plain run."""
        self._load(self.plain)
        now, before = self.snapshot(), before or self.before
        for key in ("options", "patches", "extras", "forwards", "functions"):
            assert now[key] == before[key], key
        assert list(now["parameters"]) == list(before["parameters"])
        # Some make new ones of the same data, and all do where a LoRA is merged anew.
        same = hasattr(self.plain, "lora_loader") and self.plain is self._first
        for name, (identity, value) in before["parameters"].items():
            assert not same or now["parameters"][name][0] == identity, name
            assert torch.equal(now["parameters"][name][1], value), name

    def defined(self, given, file, lora):
        twin = self.tiny.Checkpoint(given.method.arch.value).forge_objects.unet.model
        merge_into(twin, deltas_of(given, lora), given.concat)
        if given.sharing is not None:
            frames, strength = given.method.frames, given.strength
            reference.use_reference(twin.diffusion_model, file, frames, strength, given.control)
        run = copy.copy(self)
        run.unet = SimpleNamespace(model=twin, model_options={})
        return run

    def call(self, *args, unet=None, **more):
        """Returns as in `HostRun` what the host's patcher makes, or another one of its network."""
        run = copy.copy(self)
        run.unet = unet or self.unet
        return HostRun.call(run, *args, **more)

    def denoise(self, x, done, prompts, negatives):
        return self.call_unet(self.unet, x, done, prompts, negatives)

    def call_unet(self, unet, x, done, prompts, negatives=()):
        """Returns what a patcher makes, loaded or not; see `denoise`."""
        sigma = self.tiny.Predictor().percent_to_sigma(done)
        texts = [self.tiny.conditioning(of) for of in (negatives, prompts) if of]
        found = self.tiny.call_unet(unet, x, min(sigma, 14.6), texts)
        return torch.cat(found.split(len(x))[::-1])

    def break_attaching(self, patch, error):
        def fail(*_):
            raise error

        patch.setattr(type(self.plain), "set_model_unet_function_wrapper", fail)

    def break_merging(self, patch, error):
        merged, (owner, name) = [], self._merge
        merge = getattr(owner, name)

        def fail(*parts):
            if len(merged) == 2:
                raise error
            merged.append(parts)
            return merge(*parts)

        patch.setattr(owner, name, fail)

    def load_without(self, given, patch, key):
        owner, name = self._merge
        merge = getattr(owner, name)

        def part(*given):
            *_, weight, of = given
            return merge(*given) if key and of != key else weight

        patch.setattr(owner, name, part)
        self.load(given)

    def vae_makes(self, image):
        return averages(image)

    def free(self, patch, size):
        patch.setattr(import_module("patcher_parts").memory, "get_free_memory", lambda device: size)

    def break_vae(self, patch, error):
        def fail(*_):
            raise error

        patch.setattr(self.checkpoint.forge_objects.vae.first_stage_model.encoder, "forward", fail)

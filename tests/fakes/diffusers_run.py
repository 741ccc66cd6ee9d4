"""A small checkpoint on the diffusers package, and ways to use it."""

from __future__ import annotations

import copy
from functools import lru_cache
from types import SimpleNamespace

import psutil
import sharing as reference
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from host_run import BLOCK, HostRun, beside, deltas_of, merged, noise
from safetensors.torch import save_file
from shrunk_files import UNET, method_tensors, random_tensors
from tiny_diffusers import configs, folder, host, load

from lib_layerdiffuse.hosts.diffusers import attaching
from lib_layerdiffuse.hosts.diffusers.parameter_names import PREFIX, diffusers_name, module_names
from lib_layerdiffuse.hosts.diffusers.patching import PatchedParameter
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

_CONFIGS = {Arch.SD15: "sd15", Arch.SDXL: "sdxl"}
_tensors = lru_cache(method_tensors)


class Run(HostRun):
    """As in `HostRun`; `unet` is the pipeline's.

    Args:
        host: The adapter's object; None until one is opened.
    """

    kinds = (
        *(f"{BLOCK}.norm1.{name}" for name in ("weight", "bias")),
        f"{BLOCK}.attn2.to_k.weight",
        *(f"{BLOCK}.attn2.to_out.0.{name}" for name in ("weight", "bias")),
        *(f"diffusion_model.out.0.{name}" for name in ("weight", "bias")),
        *(f"diffusion_model.out.2.{name}" for name in ("weight", "bias")),
    )

    def __init__(self, host=None):
        self.host = host
        self.unet = host and host.pipeline.unet

    def host_of(self, family, **_):
        return host(Arch(family))

    def open(self, method, lora=None):
        self.host = with_lora(method.arch, lora) if lora else host(method.arch)
        self.unet = self.host.pipeline.unet
        self.before = self.snapshot()
        return self

    def put_lora(self, lora):
        raise AssertionError("a checkpoint is loaded anew for other LoRAs")

    def tensors(self, method, seed=0):
        # At a lower gain each layer of the control encoder leaves less of the control image.
        return _tensors(method, seed, 1.0 if method.uses_control else 0.3)

    def load(self, given):
        self.attachment = self.host.attach(given)
        return self

    def end(self):
        self.attachment.detach()

    @property
    def net(self):
        return self.unet

    def layer(self, name):
        return self.unet.get_submodule(diffusers_name(module_names(self.unet.config), name))

    def last_layer(self):
        return self.unet.conv_out

    def snapshot(self):
        """Returns modules and parameters by identity, and each parameter's values."""
        found = {}
        for name, module in self.unet.named_modules():
            forward, processor = (vars(module).get(name) for name in ("forward", "processor"))
            hooks = [len(module._forward_hooks), len(module._forward_pre_hooks)]
            hooks.append(len(module._forward_pre_hooks_with_kwargs))
            found[name] = id(module), id(forward), id(processor), *hooks
        for name, value in self.unet.named_parameters():
            found[f"{name}="] = id(value), value.dtype, value.device
        return found, {name: value.clone() for name, value in self.unet.state_dict().items()}

    def assert_as_before(self, before=None):
        (now, values), (then, wanted) = self.snapshot(), before or self.before
        assert now == then
        assert list(values) == list(wanted)
        assert all(torch.equal(values[name], value) for name, value in wanted.items())

    def defined(self, given, file, lora):
        run, method = copy.copy(self), given.method
        unet = run.unet = unet_of(method, deltas_of(given, lora))
        if given.concat is not None:
            beside(unet.conv_in, given.concat)
        if given.sharing is not None:
            signals = None
            if given.control is not None:
                signals = reference.reference_signals(file, given.control)
            for slot, path in enumerate(ATTENTION_SLOTS):
                what = (file, slot, method.frames, given.strength, signals)
                run.layer(path).set_processor(NaiveSharing(*what))
        return run

    def denoise(self, x, done, prompts, negatives):
        rows, config = [*negatives, *prompts], self.unet.config
        texts = [noise(77, config.cross_attention_dim, seed=sum(text.encode())) for text in rows]
        more = {"encoder_hidden_states": torch.stack(texts)}
        if config.addition_embed_type:
            wide = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            pooled, ids = noise(1, wide).expand(len(rows), -1), torch.ones(len(rows), 6)
            more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
        with torch.no_grad():
            given = torch.cat([x] * (len(rows) // len(x)))
            found = self.unet(given, torch.tensor(999 * (1 - done)), **more).sample
        return torch.cat(found.split(len(x))[::-1])

    def break_attaching(self, patch, error):
        def fail(*_, **__):
            raise error

        patch.setattr(type(self.unet), "register_forward_pre_hook", fail)

    def break_merging(self, patch, error):
        """Breaks the third parameter's exchange."""
        put, done = PatchedParameter.put, []

        def fail(parameter, patched):
            if patched and len(done) == 2:
                raise error
            done.append(parameter)
            put(parameter, patched)

        patch.setattr(attaching.PatchedParameter, "put", fail)

    def load_without(self, given, patch, key):
        raise AssertionError("nobody but the adapter puts patches into the UNet")

    def vae_makes(self, image):
        vae = self.host.pipeline.vae
        with torch.no_grad():
            mean, log_variance = vae.quant_conv(vae.encoder(2 * image - 1)).chunk(2, dim=1)
        return mean, (log_variance / 2).exp()

    def free(self, patch, size):
        found = SimpleNamespace(available=size)
        patch.setattr(psutil, "virtual_memory", lambda: found)

    def break_vae(self, patch, error):
        def fail(*_):
            raise error

        patch.setattr(self.host.pipeline.vae.encoder, "forward", fail)


class NaiveSharing:
    """An attention processor that computes sharing as it is defined."""

    def __init__(self, *what):
        self.what = what

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        file, slot, frames, strength, signals = self.what
        layers = (attn.to_q, attn.to_k, attn.to_v, attn.to_out[0])
        base = reference.Attention(attn.heads, *layers)
        return reference.reference_attention(
            file, slot, base, hidden_states, encoder_hidden_states, frames, strength, signals
        )


@lru_cache
def _unet_tensors(arch):
    return {name: t for name, t in random_tensors(arch).items() if name.startswith(UNET)}


def unet_of(method, deltas):
    """Returns the UNet that diffusers makes of a checkpoint in which deltas are merged."""
    tensors = dict(_unet_tensors(method.arch))
    for key, delta in deltas.items():
        name = f"{UNET}{key.removeprefix(PREFIX)}"
        tensors[name] = merged(tensors[name], delta)
    config = UNet2DConditionModel.load_config(configs() / _CONFIGS[method.arch] / "unet")
    config |= {"in_channels": 4 + (method.concat_channels or 0)}
    unet = UNet2DConditionModel.from_config(config)
    unet.load_state_dict(convert_ldm_unet_checkpoint(tensors, unet.config))
    return unet.eval()


_hosts = {}


def with_lora(arch, lora):
    """Returns the one host with the LoRA of all tests; they have to leave it as it is."""
    if arch not in _hosts:
        path = folder() / f"lora-{arch.name}.safetensors"
        tensors = {f"{key.removesuffix('.weight')}.diff": delta for key, delta in lora.items()}
        save_file(tensors, path)
        _hosts[arch] = load(arch, loras=[(path, 1.0)])
    return _hosts[arch]

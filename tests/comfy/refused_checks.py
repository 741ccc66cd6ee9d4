"""What a method cannot work with is refused in words."""

from __future__ import annotations

import comfy.supported_models
import torch
from small_runs import COMFY, JOINT, SDXL_FG, attached, expect, with_lora
from tiny_comfy import sample, tiny_model

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.hosts.comfy import ComfyHost
from lib_layerdiffuse.methods import Arch


def context_windows_are_refused() -> None:
    unet = attached(tiny_model(Arch.SD15), JOINT)
    unet.model_options["context_handler"] = object()
    expect(MissingCapabilityError, "indows", lambda: sample(unet, Arch.SD15, batch=3))


def other_families_are_refused() -> None:
    model = tiny_model(Arch.SDXL)
    for name in ("SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix"):
        kind = getattr(comfy.supported_models, name)
        model.model.model_config.__class__ = kind
        host = ComfyHost(COMFY, model)
        assert host.arch() is None
        expect(MissingCapabilityError, name, lambda host=host: host.check(SDXL_FG))
    model.model.model_config.__class__ = comfy.supported_models.SD20
    expect(MissingCapabilityError, "SD20", lambda: ComfyHost(COMFY, model).check(SDXL_FG))


def a_second_method_is_refused() -> None:
    unet = attached(tiny_model(Arch.SDXL), SDXL_FG)
    expect(MissingCapabilityError, "already", lambda: attached(with_lora(unet, {}), SDXL_FG))


def attention_of_others_is_refused_or_runs() -> None:
    unet = attached(tiny_model(Arch.SD15), JOINT)
    replaced = unet.clone()
    replaced.set_model_attn2_replace(lambda q, *_: q, "input", 4)
    expect(
        MissingCapabilityError,
        "replace the attention",
        lambda: sample(replaced, Arch.SD15, batch=3),
    )
    merged = unet.clone()
    merged.set_model_attn1_patch(lambda q, k, v, _: (q.roll(1, 0), k, v))
    expect(MissingCapabilityError, "regroup", lambda: sample(merged, Arch.SD15, batch=3))
    after = unet.clone()
    after.set_model_attn1_output_patch(lambda n, _: 2 * n)
    found, plain = (sample(one, Arch.SD15, batch=3) for one in (after, unet))
    assert not torch.allclose(found, plain)

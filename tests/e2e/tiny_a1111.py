"""A data folder for AUTOMATIC1111's WebUI with checkpoints and weights of a few megabytes.

Its code and its structure of networks, at the least number of channels that they take. Runs in the
WebUI's own interpreter, in its folder.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sharing
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_codec import tiny_decoder_weights, tiny_encoder_weights
from tiny_weights import put
from torch import Tensor, nn

from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch, LayerMethod, PatchKind
from lib_layerdiffuse.weights.patches import CONV_IN

CHANNELS, CLIP, OPEN_CLIP = 32, 768, 512  # Groups of 32 in the norms leave no fewer channels.
CLIP_NAME = "models--openai--clip-vit-large-patch14"
VAE = {"ch": CHANNELS, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_type": "vanilla"}
Weights = dict[str, Tensor]


def write(data: Path, hub: Path) -> None:
    """Writes the data folder, and beside it a copy of the hub with a smaller text encoder."""
    torch.manual_seed(0)
    shutil.copytree(hub, data / "hub")
    (config,) = (data / "hub" / "hub" / CLIP_NAME / "snapshots").glob("*/config.json")
    settings = json.loads(config.read_text()) | {"intermediate_size": 128}
    config.write_text(json.dumps(settings))
    for folder in ("Stable-diffusion", "layer_model", "Lora"):
        (data / "models" / folder).mkdir(parents=True)
    text = _text_encoder(settings)
    unets = {Arch.SD15: _sd15(data, text), Arch.SDXL: _sdxl(data, text)}
    for arch, unet in unets.items():
        save_file(_lora(unet), data / "models" / "Lora" / f"{arch.name.lower()}.safetensors")
    _write_layer_weights(data / "models" / "layer_model", unets[Arch.SDXL])
    options = {"live_previews_enable": False, "sd_model_checkpoint": "sd15.safetensors"}
    (data / "config.json").write_text(json.dumps(options))


def _noise(net: nn.Module) -> Weights:
    """Returns random weights for all parameters; the networks' own begin with many zeros."""
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(math.prod(parameter.shape[1:])))
        else:
            nn.init.normal_(parameter, float(name.endswith("weight")), 0.1)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _text_encoder(settings: Mapping[str, Any]) -> Weights:
    from transformers import CLIPTextConfig, CLIPTextModel

    found = dict(CLIPTextModel(CLIPTextConfig(**settings)).state_dict())
    # The host divides by the mean of what it makes, which must not be 0.
    bias = "text_model.final_layer_norm.bias"
    return found | {bias: 0.3 * torch.randn(CLIP) + 0.1}


def _save(data: Path, name: str, config: Any, parts: Mapping[str, Weights]) -> None:
    folder = data / "models" / "Stable-diffusion"
    OmegaConf.save(config, folder / f"{name}.yaml")
    whole = {f"{prefix}{k}": t.contiguous() for prefix, ts in parts.items() for k, t in ts.items()}
    save_file(whole, folder / f"{name}.safetensors")


def _sd15(data: Path, text: Weights) -> Weights:
    from ldm.models.autoencoder import AutoencoderKL
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = OmegaConf.load("configs/v1-inference.yaml")
    params = config.model.params
    params.unet_config.params.update(model_channels=CHANNELS, channel_mult=[1] * 4, num_heads=4)
    params.first_stage_config.params.ddconfig.update(VAE)
    unet = _noise(UNetModel(**params.unet_config.params))
    vae = _noise(AutoencoderKL(**params.first_stage_config.params))
    parts = {"model.diffusion_model.": unet, "first_stage_model.": vae}
    _save(data, "sd15", config, parts | {"cond_stage_model.transformer.": text})
    return unet


def _sdxl(data: Path, text: Weights) -> Weights:
    import open_clip
    from sgm.models.autoencoder import AutoencoderKLInferenceWrapper
    from sgm.modules.diffusionmodules.openaimodel import UNetModel

    config = OmegaConf.load("repositories/generative-models/configs/inference/sd_xl_base.yaml")
    params = config.model.params
    params.network_config.params.update(
        model_channels=CHANNELS,
        channel_mult=[1, 1, 1],
        num_head_channels=8,
        transformer_depth=[1, 2, 2],
        context_dim=CLIP + OPEN_CLIP,
        adm_in_channels=OPEN_CLIP + 6 * 256,
        spatial_transformer_attn_type="softmax",
    )
    params.conditioner_config.params.emb_models[1].params.arch = "ViT-B-32"
    params.first_stage_config.params.ddconfig.update(VAE)
    unet = _noise(UNetModel(**OmegaConf.to_container(params.network_config.params)))
    of_vae = OmegaConf.to_container(params.first_stage_config.params)
    vae = _noise(AutoencoderKLInferenceWrapper(**of_vae))
    second = open_clip.create_model("ViT-B-32", pretrained=None).state_dict()
    second = {k: t for k, t in second.items() if not k.startswith("visual.")}
    second["ln_final.bias"] = 0.3 * torch.randn(OPEN_CLIP) + 0.1
    parts = {"model.diffusion_model.": unet, "first_stage_model.": vae}
    texts = {"conditioner.embedders.0.transformer.": text, "conditioner.embedders.1.model.": second}
    _save(data, "sdxl", config, parts | texts)
    return unet


def _lora(unet: Weights) -> Weights:
    """Returns a user's LoRA on attention and convolutions, the first one among them."""
    made: Weights = {}
    for name, weight in unet.items():
        layer = name.removesuffix(".weight")
        if layer == name or not ("attn" in name or weight.ndim == 4):
            continue
        key = f"lora_unet_{layer.replace('.', '_')}"
        made[f"{key}.lora_up.weight"] = 0.3 * torch.randn(len(weight), 2, *[1] * (weight.ndim - 2))
        made[f"{key}.lora_down.weight"] = 0.1 * torch.randn(2, *weight.shape[1:])
        made[f"{key}.alpha"] = torch.tensor(2.0)
    return made


def _write_layer_weights(folder: Path, sdxl: Weights) -> None:
    for seed, arch in enumerate(Arch):
        put(folder, DECODERS[arch], tiny_decoder_weights(seed))
        put(folder, ENCODERS[arch], tiny_encoder_weights(seed))
    for method in METHODS:
        shares = method.patch is PatchKind.ATTENTION_SHARING
        made = _sharing(method) if shares else _patches(method, sdxl)
        put(folder, method.weights, made)


def _sharing(method: LayerMethod) -> Weights:
    return sharing.random_file(
        method.frames, channels=CHANNELS, context=CLIP, control=method.uses_control
    )


def _patches(method: LayerMethod, unet: Weights) -> Weights:
    """Returns a file that changes all that the released one of its method changes."""

    def noise(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape) / math.sqrt(math.prod(shape[1:]) or 1)

    made: Weights = {}
    for name, weight in unet.items():
        key = f"diffusion_model.{name}"
        if method.id == "fg_attn_sdxl":
            if "attn" in name and weight.ndim == 2:
                made[f"{key}::lora::0"] = noise(len(weight), 4)
                made[f"{key}::lora::1"] = noise(4, weight.shape[1])
        elif key != CONV_IN:
            made[f"{key}::diff::0"] = noise(*weight.shape)
        elif method.concat_channels:
            wide = 4 + method.concat_channels
            made[f"{key}::diff::0"] = noise(len(weight), wide, *weight.shape[2:])
    return made

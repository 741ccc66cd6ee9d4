"""The shapes of SD1.5 and SDXL, for checkpoints in one file, which do not carry them.

Only what differs from the defaults of diffusers and transformers is given.
Source: the tensors' shapes in the published checkpoints, and the papers (arXiv:2112.10752,
arXiv:2307.01952): 8 heads or heads of 64 channels, CLIP ViT-L/14 and OpenCLIP ViT-bigG/14.
"""

from __future__ import annotations

from typing import Any

from ...methods import Arch

Config = dict[str, Any]

_CLIP_L: Config = {
    "architectures": ["CLIPTextModel"],
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
    # Else transformers takes the token 2 for a legacy value, and the pooled output's place with it.
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}
_CLIP_G: Config = _CLIP_L | {
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
_VAE: Config = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "force_upcast": False,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
_SCHEDULER: Config = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
}
_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"

COMPONENTS: dict[Arch, dict[str, Config]] = {
    Arch.SD15: {
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "attention_head_dim": 8,
            "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 768,
            "down_block_types": [_DOWN, _DOWN, _DOWN, "DownBlock2D"],
            "layers_per_block": 2,
            "sample_size": 64,
            "up_block_types": ["UpBlock2D", _UP, _UP, _UP],
        },
        "vae": _VAE,
        "text_encoder": _CLIP_L,
        "scheduler": _SCHEDULER,
    },
    Arch.SDXL: {
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048,
            "down_block_types": ["DownBlock2D", _DOWN, _DOWN],
            "layers_per_block": 2,
            "projection_class_embeddings_input_dim": 2816,
            "sample_size": 128,
            "transformer_layers_per_block": [1, 2, 10],
            "up_block_types": [_UP, _UP, "UpBlock2D"],
            "use_linear_projection": True,
        },
        "vae": _VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
        "scheduler": _SCHEDULER,
    },
}
"""Each component's configuration by its folder in diffusers' layout."""

CLASSES: dict[Arch, dict[str, Any]] = {
    Arch.SD15: {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    Arch.SDXL: {
        "_class_name": "StableDiffusionXLPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
}
"""The pipelines' `model_index.json`."""

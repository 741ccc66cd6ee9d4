"""The tiny family's models: SD1.5's and SDXL's own shapes with few channels.

The layout is that of the large models (blocks a level, attention slots, two text encoders for
SDXL, a VAE of four channels at 1/8), so that the same code runs both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..methods import Arch
from . import scenes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SIDE = 96
"""Pixels of a side that the family is trained at."""
TEXT_TOKENS = 77
SCALING = {Arch.SD15: 0.18215, Arch.SDXL: 0.13025}
_TEXT_WIDTH = 64
_TIME_WIDTH = 32
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_UNET: dict[Arch, dict[str, Any]] = {
    Arch.SD15: {
        "block_out_channels": (32, 48, 56, 56),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": (2, 3, 4, 4),
        "cross_attention_dim": _TEXT_WIDTH,
    },
    Arch.SDXL: {
        "block_out_channels": (32, 40, 48),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        "transformer_layers_per_block": (0, 1, 2),
        "attention_head_dim": (2, 2, 3),
        "cross_attention_dim": 2 * _TEXT_WIDTH,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": _TIME_WIDTH,
        "projection_class_embeddings_input_dim": _TEXT_WIDTH + 6 * _TIME_WIDTH,
    },
}


def unet(arch: Arch) -> Any:
    """Returns a UNet2DConditionModel of the family with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 8, layers_per_block=2, norm_num_groups=8, **_UNET[arch]
    )


def vae(arch: Arch) -> Any:
    """Returns an AutoencoderKL of the family with random weights."""
    from diffusers import AutoencoderKL

    widths = (16, 16, 32, 64)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=SCALING[arch],
        force_upcast=False,
    )


def text_encoders(arch: Arch, tokens: int, end: int) -> list[nn.Module]:
    """Returns the family's CLIP text models with random weights: one for SD1.5, two for SDXL.

    Args:
        arch: The family.
        tokens: The vocabulary's size.
        end: Id of the end token, from which the pooled text is taken.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=_TEXT_WIDTH,
        intermediate_size=4 * _TEXT_WIDTH,
        projection_dim=_TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_TOKENS,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    kinds = [CLIPTextModel]
    if arch is Arch.SDXL:
        kinds.append(CLIPTextModelWithProjection)
    return [kind(config) for kind in kinds]


def write_tokenizer(folder: Path) -> Any:
    """Writes a byte-pair tokenizer that knows each caption's words as one token, and returns it.

    Any other text is spelt in shorter pieces.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=1,
    )
    learner.train_from_iterator(scenes.vocabulary() * 2, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = [tuple(m.split()) if isinstance(m, str) else tuple(m) for m in learned["merges"]]
    pieces += ["".join(merge) for merge in merges]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys((*pieces, _START, _END)))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    made = CLIPTokenizer.from_pretrained(
        folder,
        bos_token=_START,
        eos_token=_END,
        unk_token=_END,
        pad_token=_END,
        model_max_length=TEXT_TOKENS,
    )
    made.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def pipeline(arch: Arch, folder: Path) -> DiffusionPipeline:
    """Returns a text-to-image pipeline of the family with random weights.

    Args:
        arch: The family.
        folder: Where the tokenizer is written.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    tokenizer = write_tokenizer(folder / "tokenizer")
    encoders = text_encoders(arch, len(tokenizer), tokenizer.eos_token_id)
    parts = {
        "vae": vae(arch),
        "unet": unet(arch),
        "scheduler": DDIMScheduler(**_SCHEDULER),
        "tokenizer": tokenizer,
        "text_encoder": encoders[0],
    }
    if arch is Arch.SD15:
        return StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    return StableDiffusionXLPipeline(
        **parts,
        tokenizer_2=write_tokenizer(folder / "tokenizer_2"),
        text_encoder_2=encoders[1],
        add_watermarker=False,
    )


def make_random(arch: Arch, folder: Path, seed: int) -> Path:
    """Writes a diffusers folder of the family with random weights, float32, and returns it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline(arch, folder).save_pretrained(folder)
    return folder

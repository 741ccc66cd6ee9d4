"""New models of the tiny family's shapes, with random weights, to train.

The layout is that of the large models (blocks a level, attention slots, two text encoders for
SDXL, a VAE of four channels at 1/8), so that the same code runs both. Widths and depths are those
of the configurations in `models/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..methods import Arch
from . import checkpoint, scenes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SIDE = 96
"""Pixels of a side that the family is trained at."""
SCALING = {Arch.SD15: 0.18215, Arch.SDXL: 0.13025}
_START, _END = "<|startoftext|>", "<|endoftext|>"
_TEXT_TOKENS = 77


def unet(arch: Arch) -> Any:
    """Returns a UNet2DConditionModel of the family with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(checkpoint(arch) / "unet")
    )


def vae(arch: Arch) -> Any:
    """Returns an AutoencoderKL of the family with random weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(AutoencoderKL.load_config(checkpoint(arch) / "vae"))


def text_encoders(arch: Arch, tokens: int, end: int) -> list[nn.Module]:
    """Returns the family's CLIP text models with random weights: one for SD1.5, two for SDXL.

    Args:
        arch: The family.
        tokens: The vocabulary's size.
        end: Id of the end token, from which the pooled text is taken.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kinds = {"text_encoder": CLIPTextModel}
    if arch is Arch.SDXL:
        kinds["text_encoder_2"] = CLIPTextModelWithProjection
    given = {
        "vocab_size": tokens,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
        "dtype": "float32",  # The trained ones are kept in half of it.
    }
    return [
        kind(CLIPTextConfig.from_pretrained(checkpoint(arch) / name, **given))
        for name, kind in kinds.items()
    ]


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
        model_max_length=_TEXT_TOKENS,
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
        "scheduler": DDIMScheduler.from_pretrained(checkpoint(arch) / "scheduler"),
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

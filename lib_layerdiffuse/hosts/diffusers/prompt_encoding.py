"""Prompts to what the UNet reads: emphasis, and any length in blocks of 75 tokens.

As in the WebUI, each block of tokens is encoded by itself and the results are put side by side;
weights scale a token's vector, and the block's mean is put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...methods import Arch
from .emphasis import BREAK, parse

_Token = tuple[int, float]
_Block = list[_Token]


@torch.no_grad()
def embeddings(
    pipeline: Any, arch: Arch, prompts: Sequence[str], negatives: Sequence[str]
) -> dict[str, Tensor]:
    """Returns a pipeline's arguments for these rows: prompts and negatives of one length.

    Args:
        pipeline: Its tokenizers and text encoders are used.
        arch: The checkpoint's family.
        prompts: One for each row.
        negatives: One for each row. For SDXL, nothing but empty ones are zeros, as it was trained.

    Raises:
        SettingsError: A prompt has syntax that is not done here.
    """
    rows = [*prompts, *negatives]
    tokenizer, device = pipeline.tokenizer, pipeline._execution_device
    # The first one for both: the second takes each "!" for padding.
    blocks = _equally_many([_blocks(tokenizer, row) for row in rows])
    encoders = [(tokenizer.pad_token_id, pipeline.text_encoder)]
    if arch is Arch.SDXL:
        encoders.append((pipeline.tokenizer_2.pad_token_id, pipeline.text_encoder_2))
    found = [_encode(tokenizer, pad, net, blocks, arch, device) for pad, net in encoders]
    tokens = torch.cat([tokens for tokens, _ in found], dim=-1)
    positive, negative = tokens.split([len(prompts), len(negatives)])
    values = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    if arch is Arch.SDXL:
        pooled, negative_pooled = found[-1][1].split([len(prompts), len(negatives)])
        values |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
        if not any(text.strip() for text in negatives):
            values |= {k: torch.zeros_like(v) for k, v in values.items() if "negative" in k}
    return values


def _encode(
    tokenizer: Any,
    pad: int,
    net: Any,
    rows: Sequence[list[_Block]],
    arch: Arch,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Returns one encoder's vectors `b n c` and its pooled ones `b c`."""
    flat = [block for row in rows for block in row]
    ids = torch.tensor([_ids(tokenizer, block, pad) for block in flat])
    output = net(ids.to(device), output_hidden_states=True)
    vectors = output.hidden_states[-2] if arch is Arch.SDXL else output.last_hidden_state
    vectors = _weigh(vectors, flat)
    pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
    count = len(rows[0])
    return vectors.unflatten(0, (-1, count)).flatten(1, 2), pooled[::count]


def _blocks(tokenizer: Any, prompt: str) -> list[_Block]:
    """Returns a prompt's tokens with their weights, in blocks; at least one."""
    size = tokenizer.model_max_length - 2
    blocks: list[_Block] = [[]]
    for text, weight in parse(prompt):
        if text == BREAK:
            blocks.append([])
            continue
        for token in tokenizer(text, add_special_tokens=False, verbose=False).input_ids:
            if len(blocks[-1]) == size:
                blocks.append([])
            blocks[-1].append((token, weight))
    return blocks


def _equally_many(rows: Sequence[list[_Block]]) -> list[list[_Block]]:
    """Returns the rows with empty blocks after the shorter ones."""
    count = max(len(row) for row in rows)
    return [row + [[]] * (count - len(row)) for row in rows]


def _ids(tokenizer: Any, block: _Block, pad: int) -> list[int]:
    ids = [tokenizer.bos_token_id, *(token for token, _ in block), tokenizer.eos_token_id]
    return ids + [pad] * (tokenizer.model_max_length - len(ids))


def _weigh(vectors: Tensor, blocks: Sequence[_Block]) -> Tensor:
    """Returns each block's vectors times their tokens' weights, with the mean that it had."""
    if all(weight == 1 for block in blocks for _, weight in block):
        return vectors
    weights = torch.ones(vectors.shape[:2])
    for row, block in zip(weights, blocks, strict=True):
        row[1 : 1 + len(block)] = torch.tensor([weight for _, weight in block])
    plain = vectors.float()
    weighed = plain * weights.to(plain.device).unsqueeze(-1)
    means = (x.mean(dim=(1, 2), keepdim=True) for x in (plain, weighed))
    return (weighed * torch.div(*means)).to(vectors.dtype)

"""What other extensions do to the UNet's attention: whether a method's layers still meet in it.

A patch gets the queries, keys and values of a layer and gives others. One that repeats all rows of
a conditioning, as for regions, leaves the layers of a set beside each other. One that shares tokens
out among rows or merges them does not; it is found by handing it rows and tokens that are numbered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...methods import LayerMethod, PatchKind
from ...nets.attention_sharing import BLOCK_LEVELS
from ...weights.patches import ATTENTION_SLOTS
from .others import refusal

_KINDS = ("attn1_patch", "attn2_patch")
_UNCOND, _COND = 1, 0
_TOKENS = 77  # Of a prompt.

_Patch = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor, Tensor]]


def check_patched(unet: Any, method: LayerMethod, latent: Tensor) -> None:
    """Checks that a method finds the attention that it changes, and a set's layers in it.

    Args:
        unet: The patcher of the coming run, which others have patched, too.
        method: The method.
        latent: What the run starts from, `b 4 h w`.

    Raises:
        MissingCapabilityError: A forward replaces attention, or a patch regroups rows or tokens.
    """
    if method.patch is not PatchKind.ATTENTION_SHARING:
        return
    _refuse_hooked(unet)
    if method.frames > 1 or method.uses_control:
        _refuse_regrouping(unet, method.frames, latent)


def _refuse_hooked(unet: Any) -> None:
    """Checks that no attention module has a forward of its own, which the method's would hide."""
    for path in ATTENTION_SLOTS:
        forward = vars(unet.model.diffusion_model.get_submodule(path)).get("forward")
        if forward is not None:
            raise refusal(_origin(forward), "replace the attention that it has to change")


def _refuse_regrouping(unet: Any, frames: int, latent: Tensor) -> None:
    """Checks that a set's layers stay beside each other, token by token, in every layer."""
    patches: dict[str, list[_Patch]] = _options(unet).get("patches", {})
    for kind, (q, k, options) in _numbered(unet, frames, latent, patches):
        for patch in patches.get(kind, ()):
            try:
                with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                    given, _, _ = patch(q, k, k, dict(options))
            except Exception:  # It wants what only a run has; then each layer's rows are checked.
                continue
            if not _keeps_sets(q, given, frames):
                raise refusal(_origin(patch), "regroup the parts of the image whose layers meet")


def _options(unet: Any) -> dict[str, Any]:
    options: dict[str, Any] = unet.model_options.get("transformer_options", {})
    return options


def _numbered(
    unet: Any, frames: int, latent: Tensor, patches: dict[str, list[_Patch]]
) -> Iterator[tuple[str, tuple[Tensor, Tensor, dict[str, Any]]]]:
    """Yields each layer's kind of patch with what one would get: queries, keys and options.

    The rows are one set without and one with its prompts. The queries' first channel counts.
    """
    net = unet.model.diffusion_model
    height, width = latent.shape[2:]
    rows = 2 * frames
    sigmas = torch.ones(frames, device=latent.device)
    common = _options(unet) | {
        "cond_or_uncond": [_UNCOND, _COND],
        "cond_mark": torch.tensor([_UNCOND] * frames + [_COND] * frames).to(sigmas),
        "cond_indices": list(range(frames, rows)),
        "uncond_indices": list(range(frames)),
        "sigmas": sigmas,
        "original_shape": [rows, *latent.shape[1:]],
        "transformer_index": 0,
        "block_index": 0,
    }
    common.pop("patches", None)
    for slot, path in enumerate(ATTENTION_SLOTS):
        kind = _KINDS[slot % 2]
        if not patches.get(kind):
            continue
        module, level = net.get_submodule(path), BLOCK_LEVELS[slot // 2]
        tokens = -(-height // 2**level) * -(-width // 2**level)
        channels = module.to_q.in_features
        q = torch.zeros(rows, tokens, channels, device=latent.device)
        q[..., 0] = torch.arange(1, rows * tokens + 1, device=latent.device).view(rows, tokens)
        k = q if slot % 2 == 0 else q.new_zeros(rows, _TOKENS, module.to_k.in_features)
        place, number, *_ = path.split(".")
        kind_of_block = place.partition("_")[0]
        block = (kind_of_block, 0 if kind_of_block == "middle" else int(number))
        of_layer = {"block": block, "n_heads": module.heads, "dim_head": channels // module.heads}
        yield kind, (q, k, common | of_layer)


def _keeps_sets(q: Tensor, given: Tensor, part: int) -> bool:
    """Whether a patch gave whole parts of the rows, as they are or with other values.

    Args:
        q: What it got, with numbers in the first channel.
        given: What it gave.
        part: Rows of a part; what is over must be empty.
    """
    if given.shape[1:] != q.shape[1:] or len(given) < len(q):
        return False
    over = len(given) % part
    whole, rest = given[: len(given) - over, :, 0], given[len(given) - over :]
    if rest.any():
        return False
    before, parts = (tags.unflatten(0, (-1, part)) for tags in (q[..., 0], whole))
    numbers = before.flatten()
    if not torch.isin(parts, numbers).all():
        return True  # Other values: what rows they are of cannot be told, but they are as many.
    which = ((parts[:, 0, 0] - 1) / before[0].numel()).long()
    return torch.equal(before[which], parts)


def _origin(given: Any) -> str:
    """Returns the name of the extension that a function is of, or of its module."""
    function = inspect.unwrap(given)
    code = getattr(function, "__code__", None) or getattr(type(given).__call__, "__code__", None)
    parts = Path(code.co_filename).parts if code is not None else ()
    for place in reversed(range(len(parts) - 1)):
        if parts[place] in ("extensions", "extensions-builtin", "custom_nodes"):
            return parts[place + 1]
    return str(getattr(function, "__module__", type(given).__module__)).rpartition(".")[-1]

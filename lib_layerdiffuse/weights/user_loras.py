"""The user's LoRA files: whose keys of which kind they hold, and what each does to a weight.

Source: the keys that kohya-ss's scripts, LyCORIS, PEFT, diffusers and ComfyUI write; Hu et al.,
arXiv:2106.09685 (LoRA); Hyeon-Woo et al., arXiv:2108.06098 (LoHa); Yeh et al., arXiv:2309.14859
(LoKr); Liu et al., arXiv:2402.09353 (DoRA).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError

_LARGEST = 1e30
"""A scale beyond it is none, nor is one that is no number."""

# What a key ends in, by the name that the part has here; `{}` may be PEFT's adapter name.
_ENDS = {
    r"lora_up\.weight|lora\.up\.weight|lora_linear_layer\.up\.weight|lora_B{}\.weight": "up",
    r"lora_down\.weight|lora\.down\.weight|lora_linear_layer\.down\.weight|lora_A{}\.weight": (
        "down"
    ),
    r"lora_mid\.weight": "mid",
    r"alpha": "alpha",
    r"dora_scale|lora_magnitude_vector{}(?:\.weight)?": "magnitude",
    r"diff|w_norm": "diff",
    r"diff_b|b_norm": "bias",
    r"hada_(?P<hada>w[12]_[ab]|t[12])": "hada_",
    r"lokr_(?P<lokr>w[12](?:_[ab])?|t2)": "lokr_",
}
_FOREIGN = {
    r"oft_(?:blocks|diag|r)\b.*|oft_R\b.*": "OFT",
    r"(?:a1|a2|b1|b2)\.weight": "GLoRA",
    r"on_input": "IA3",
    r"vera_lambda_[bd]": "VeRA",
}


def _compiled(ends: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    adapter = r"(?:\.\w+)?"
    return [
        (re.compile(rf"(?P<name>.+?)[._](?:{end.replace('{}', adapter)})"), part)
        for end, part in ends.items()
    ]


_PARTS, _KINDS = _compiled(_ENDS), _compiled(_FOREIGN)


class LoraMisfit(WeightsError):
    """A layer of a LoRA cannot be added to a weight; the message is the end of a sentence."""


@dataclass(frozen=True)
class LoraLayer:
    """What a file does to one layer.

    Attributes:
        key: The layer's name in the file.
        parts: Tensors by part: `up`, `down`, `mid`, `alpha`, `magnitude`, `diff`, `bias`, and
            LyCORIS's own names.
        scale: Of `up @ down`, where the file's metadata says it; None for `alpha / rank`.
    """

    key: str
    parts: dict[str, Tensor] = field(default_factory=dict)
    scale: float | None = None

    def changed(self, weight: Tensor, strength: float) -> Tensor:
        """Returns a weight, float32, with this layer at a strength.

        Raises:
            LoraMisfit: The shapes do not fit, or numbers are NaN or infinite.
        """
        try:
            delta = self._delta(weight)
            if "magnitude" in self.parts:
                delta = _decomposed(weight, weight + delta, self.parts["magnitude"]) - weight
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            raise LoraMisfit(
                f"its {self.key} does not fit the checkpoint's layer of {list(weight.shape)}",
                "Choose a LoRA of the checkpoint's family.",
            ) from error
        if not delta.isfinite().all():
            raise LoraMisfit(f"its {self.key} holds NaN or infinity", "Choose another file.")
        return weight + strength * delta

    def bias(self, bias: Tensor, strength: float) -> Tensor:
        """Returns a bias, float32, with this layer at a strength; as `changed`."""
        return LoraLayer(self.key, {"diff": self.parts["bias"]}).changed(bias, strength)

    def _delta(self, weight: Tensor) -> Tensor:
        parts = {name: tensor.to(torch.float32) for name, tensor in self.parts.items()}
        if "diff" in parts:
            delta = parts["diff"]
        elif "up" in parts:
            delta = _product(parts["up"], parts["down"], parts.get("mid"))
            delta = delta * self._scale(parts, parts["down"].shape[0])
        elif any(name.startswith("hada_") for name in parts):
            pairs = [_hada(parts, n) for n in "12"]
            delta = pairs[0] * pairs[1] * self._scale(parts, parts["hada_w1_b"].shape[0])
        else:
            delta = self._lokr(parts)
        if delta.shape[0] != weight.shape[0] and delta.ndim > 1:
            raise ValueError("another number of channels")
        return delta.reshape(weight.shape)

    def _lokr(self, parts: dict[str, Tensor]) -> Tensor:
        rank = next((parts[f"lokr_w{n}_b"].shape[0] for n in "12" if f"lokr_w{n}_b" in parts), 0)
        one, two = (
            parts[f"lokr_w{n}"]
            if f"lokr_w{n}" in parts
            else _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
            if n == "2" and "lokr_t2" in parts
            else parts[f"lokr_w{n}_a"] @ parts[f"lokr_w{n}_b"]
            for n in "12"
        )
        one = one.reshape(*one.shape, *[1] * (two.ndim - one.ndim))
        return torch.kron(one, two) * (self._scale(parts, rank) if rank else 1.0)

    def _scale(self, parts: dict[str, Tensor], rank: int) -> float:
        if self.scale is not None:
            return self.scale
        return float(parts["alpha"]) / rank if "alpha" in parts else 1.0

    @property
    def complete(self) -> bool:
        """Whether everything is there that the parts need."""
        names = {name for name in self.parts if name not in ("alpha", "magnitude", "bias", "mid")}
        if names in ({"up", "down"}, {"diff"}) or (not names and "bias" in self.parts):
            return True
        if any(name.startswith("hada_") for name in names):
            return names - {"hada_t1", "hada_t2"} == {f"hada_w{n}_{c}" for n in "12" for c in "ab"}
        return all(f"lokr_w{n}" in names or {f"lokr_w{n}_a", f"lokr_w{n}_b"} <= names for n in "12")


def _product(up: Tensor, down: Tensor, mid: Tensor | None) -> Tensor:
    """Returns `out in …` of a LoRA of a linear layer or a convolution."""
    if mid is not None:
        return _tucker(mid, up.flatten(1).T, down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _hada(parts: dict[str, Tensor], number: str) -> Tensor:
    a, b = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
    core = parts.get(f"hada_t{number}")
    return a @ b if core is None else _tucker(core, a, b)


def _tucker(core: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Returns `out in …` of a core `r s …`, `r out` and `s in`."""
    made: Tensor = torch.einsum("rs...,ro,si->oi...", core, outer, inner)
    return made


def _decomposed(plain: Tensor, weight: Tensor, magnitude: Tensor) -> Tensor:
    """Returns a weight with the lengths that DoRA gives its rows, or its columns."""
    magnitude = magnitude.to(torch.float32)
    by_rows = magnitude.shape[0] == plain.shape[0] and magnitude.numel() == plain.shape[0]
    flat = weight.flatten(1) if by_rows else weight.transpose(0, 1).flatten(1)
    lengths = flat.norm(dim=1) + torch.finfo(torch.float32).eps
    factors = magnitude.flatten() / lengths
    shape = [1] * weight.ndim
    shape[0 if by_rows else 1] = -1
    made: Tensor = weight * factors.reshape(shape)
    return made


def read_lora(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str
) -> tuple[list[LoraLayer], list[str]]:
    """Returns the layers that a LoRA file changes, and the keys that nothing is known of.

    Raises:
        WeightsError: It is none, of a kind that is not known, or damaged.
    """
    layers: dict[str, LoraLayer] = {}
    unknown = []
    for key, tensor in tensors.items():
        of, part = _split(key)
        if part:
            layers.setdefault(of, LoraLayer(of)).parts[part] = tensor
            continue
        kind = next((kind for end, kind in _KINDS if end.fullmatch(key)), None)
        if kind:
            raise WeightsError(
                f"{name} is a {kind} file, which LayerDiffuse cannot apply.",
                "Choose a LoRA, DoRA, LoHa or LoKr.",
            )
        unknown.append(key)
    if not layers:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        held = f"{min(unknown)}{more}" if unknown else "nothing"
        raise WeightsError(f"{name} is no LoRA: it holds {held}.", "Choose a LoRA's file.")
    for layer in layers.values():
        if not layer.complete:
            raise WeightsError(
                f"{name} is damaged: a part of its {layer.key} is missing.",
                "Download it again.",
            )
    scales = _scales(metadata)
    if not scales:
        return list(layers.values()), unknown
    return [_with_scale(layer, scales) for layer in layers.values()], unknown


def _split(key: str) -> tuple[str, str]:
    """Returns the layer that a key is for, and the part of it; no part for one unknown."""
    for pattern, part in _PARTS:
        match = pattern.fullmatch(key)
        if match:
            groups = match.groupdict()
            return match["name"], part + (groups.get("hada") or groups.get("lokr") or "")
    return key, ""


def _scales(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns what diffusers notes of PEFT's configuration; empty where it notes nothing."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_scale(layer: LoraLayer, noted: Mapping[str, Any]) -> LoraLayer:
    """Returns the layer with the scale that PEFT's configuration gives it, if it gives one."""
    part, _, path = layer.key.partition(".")
    alpha = noted.get(f"{part}.lora_alpha")
    patterns = noted.get(f"{part}.alpha_pattern")
    for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
        if path == pattern or path.endswith(f".{pattern}"):
            alpha = value
    if not isinstance(alpha, int | float) or {"alpha"} & layer.parts.keys():
        return layer
    rank = layer.parts["down"].shape[0] if "down" in layer.parts else 0
    if not rank or not abs(alpha) < _LARGEST:
        return layer
    rank_scale = math.sqrt(rank) if noted.get(f"{part}.use_rslora") is True else rank
    return LoraLayer(layer.key, layer.parts, alpha / rank_scale)

"""Merges patches into a network's weights, and takes them out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backend.utils import get_attr, set_attr_raw

Identity = tuple[str, float, float, bool]


class LoraLoader:
    """Belongs to a network, so that all clones of its patcher share it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.backup: dict[str, nn.Parameter] = {}
        self.online: list[nn.Module] = []
        self.loaded_hash = str([])
        self.merges = 0

    @torch.inference_mode()
    def refresh(
        self,
        lora_patches: Mapping[Identity, Mapping[str, list[Any]]],
        offload_device: torch.device = torch.device("cpu"),  # noqa: B008
        force_refresh: bool = False,
    ) -> None:
        """Does nothing if the same identities are loaded: content does not count."""
        wanted = str(list(lora_patches))
        if wanted == self.loaded_hash and not force_refresh:
            return
        self._restore()
        together: dict[tuple[str, bool], list[Any]] = {}
        for (_, _, _, online), patches in lora_patches.items():
            for key, entries in patches.items():
                together.setdefault((key, online), []).extend(entries)
        for (key, online), entries in together.items():
            (self._put_online if online else self._merge)(key, entries)
        self.loaded_hash = wanted
        self.merges += 1

    def _restore(self) -> None:
        for layer in self.online:
            del layer.forge_online_loras
        for key, weight in self.backup.items():
            set_attr_raw(self.model, key, weight)
        self.online, self.backup = [], {}

    def _put_online(self, key: str, entries: list[Any]) -> None:
        path, _, name = key.rpartition(".")
        layer = get_attr(self.model, path)
        layer.forge_online_loras = {name: entries}
        self.online.append(layer)

    def _merge(self, key: str, entries: list[Any]) -> None:
        weight = get_attr(self.model, key)
        self.backup.setdefault(key, weight)
        merged = merge_lora_to_weight(entries, weight, key)
        set_attr_raw(self.model, key, nn.Parameter(merged, requires_grad=False))


def merge_lora_to_weight(entries: list[Any], weight: Tensor, key: str) -> Tensor:
    """Returns a weight with patches `[strength, (kind, parts), …]` added."""
    weight = weight.detach().clone()
    for strength, (kind, parts), *_ in entries:
        if kind == "lora":
            up, down, alpha, mid, dora = (parts[i] for i in range(5))  # read by position
            assert alpha is mid is dora is None
            weight += strength * (up @ down)
            continue
        assert kind == "diff"
        delta = parts[0]
        wide = delta.shape[1] - weight.shape[1] if delta.ndim == 4 else 0
        if wide:
            weight = torch.cat([weight, weight.new_zeros(len(weight), wide, 3, 3)], dim=1)
        weight += strength * delta
    return weight

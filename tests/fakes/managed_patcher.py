"""What patchers have in common whose patches the memory manager merges: Neo's and reForge's.

A patcher is a shared network, with patches that each clone has for itself. Loading a clone merges
what is on it and takes off what another had; what the network has now is told by an id, and what it
had is kept in a dict that the clones share.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial, reduce
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4
from weakref import finalize, ref

import torch
from clones import WithMemory
from torch import Tensor, nn
from torch.nn import functional as F

_log = logging.getLogger("lora")


class LoadedModel:
    """A patcher in use, as long as somebody holds it; then the one that it was cloned of."""

    def __init__(self, model: Any) -> None:
        self._hold(model)

    def _hold(self, model: Any) -> None:
        self._model, self.real_model = ref(model), ref(model.model)
        if model.parent is not None:
            self._parent = ref(model.parent)
            finalize(model, self._hold_parent).atexit = False

    def _hold_parent(self) -> None:
        parent = self._parent()
        if parent is not None:
            self._hold(parent)

    @property
    def model(self) -> Any:
        return self._model()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedModel) and self.model is other.model

    __hash__ = None  # type: ignore[assignment]

    def model_unload(
        self, memory_to_free: float | None = None, unpatch_weights: bool = True
    ) -> bool:
        self.model.detach(unpatch_weights)
        self.model.unloaded = True
        return True


def loading(
    current: list[LoadedModel], loaded: list[Any], whole: list[Any] | None = None
) -> Callable[..., None]:
    """Returns a host's function that loads patchers, and merges what their networks lack.

    Args:
        current: The patchers that are in use, the last one first.
        loaded: Is added every network that was loaded.
        whole: Is added those that had to be loaded whole.
    """

    def load_models_gpu(
        models: list[Any],
        memory_required: float = 0,
        force_patch_weights: bool = False,
        minimum_memory_required: float | None = None,
        force_full_load: bool = False,
    ) -> None:
        for patcher in models:
            for entry in list(current):  # A clone of it, or nobody's any more.
                if entry.model is None or entry.model.model is patcher.model:
                    del current[next(i for i, one in enumerate(current) if one is entry)]
            patcher.model.to(patcher.load_device)
            patcher.partially_load()
            loaded.append(patcher.model)
            current.insert(0, LoadedModel(patcher))
        if force_full_load and whole is not None:
            whole.extend(patcher.model for patcher in models)

    return load_models_gpu


class _Lazy(nn.Module):
    """Has functions of its weight and bias, empty at first."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.weight_function: list[Any] = []
        self.bias_function: list[Any] = []

    def now(self, name: str) -> Tensor | None:
        """Returns the weight or the bias that it computes with."""
        value: Tensor | None = getattr(self, name)
        lowvram = getattr(self, f"{name}_lowvram_function", None)
        functions = getattr(self, f"{name}_function")
        for function in [lowvram, *functions] if lowvram else functions:
            assert value is not None
            value = function(value.clone())  # It is changed in place.
        return value


class Linear(_Lazy, nn.Linear):
    """Changes its weight in each call, where that is offloaded or a LoRA is online."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.now("weight"), self.now("bias")
        assert weight is not None
        return F.linear(x, weight, bias)


class Conv2d(_Lazy, nn.Conv2d):
    """Likewise."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.now("weight"), self.now("bias")
        assert weight is not None
        return self._conv_forward(x, weight, bias)


class LoRAAdapter:
    """A LoRA's parts: up, down, alpha, mid, DoRA's scale, shape."""

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]) -> None:
        self.loaded_keys, self.weights = loaded_keys, weights

    def add(self, weight: Tensor, strength: float) -> None:
        """Adds it to a weight, in place."""
        up, down, alpha, mid, scale, shape = self.weights
        assert alpha is mid is scale is shape is None
        weight += strength * (up @ down)


def merge(patches: list[Any], weight: Tensor, key: str, unknown: Callable[[str], None]) -> Tensor:
    """Returns a weight, which is changed, with patches `(strength, patch, …)` added.

    A difference of another shape is left out with a warning, unless it says that it pads.

    Args:
        patches: The patches.
        weight: The weight.
        key: Its name.
        unknown: Told of a kind of patch that the host does not know.
    """
    for strength, patch, *_ in patches:
        if isinstance(patch, LoRAAdapter):
            patch.add(weight, strength)
            continue
        kind, parts = patch
        if kind != "diff":
            unknown(f'"{key}" of type "{kind}" is not recognized...')
            continue
        weight = add_difference(weight, parts, strength, key)
    return weight


def add_difference(weight: Tensor, parts: Any, strength: float, key: str) -> Tensor:
    """Returns a weight with a difference added, where the shapes fit or it says that it pads."""
    delta: Tensor = parts[0]
    if len(parts) > 1 and parts[1]["pad_weight"] and delta.shape != weight.shape:
        more = [n - m for n, m in zip(delta.shape, weight.shape, strict=True)]
        weight = F.pad(weight, [side for n in reversed(more) for side in (0, n)])
    if delta.shape != weight.shape:
        _log.warning("SHAPE MISMATCH %s WEIGHT NOT MERGED", key)
        return weight
    weight += strength * delta
    return weight


class ManagedPatcher(WithMemory):
    """Merges and takes off by an id.

    A host's own has `merge(entries, weight, key)` and `has_room()`, whether all weights fit; else
    those that can are patched in each call.
    """

    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
    ) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.patches: dict[str, list[Any]] = {}
        self.backup: dict[str, Any] = {}
        self.patches_uuid = uuid4()
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.parent: ManagedPatcher | None = None
        for name, value in (("current_weight_patches_uuid", None), ("merges", 0)):
            if not hasattr(model, name):
                setattr(model, name, value)

    def clone(self) -> ManagedPatcher:
        twin = type(self)(self.model, self.load_device, self.offload_device)
        twin.patches = {key: list(entries) for key, entries in self.patches.items()}
        twin.patches_uuid, twin.parent, twin.backup = self.patches_uuid, self, self.backup
        twin.model_options = copy.deepcopy(self.model_options)
        return twin

    def put(self, patches: dict[str, Any], strength: float, *more: Any) -> list[str]:
        """Returns the keys that the network has, whatever their patches are."""
        known = [key for key in self.model.state_dict() if key in patches]
        for key in known:
            self.patches.setdefault(key, []).append((strength, patches[key], *more))
        self.patches_uuid = uuid4()
        return known

    def partially_load(self) -> None:
        """Merges this clone's patches, if the network has others."""
        current: UUID | None = self.model.current_weight_patches_uuid
        if current == self.patches_uuid:
            return
        if current is not None:
            self.unpatch_model(self.offload_device)
        self.model.merges += 1
        try:
            for key, entries in self.patches.items():
                self._put(key, entries)
        except Exception:
            self.detach()
            raise
        self.model.current_weight_patches_uuid = self.patches_uuid

    def _put(self, key: str, entries: list[Any]) -> None:
        path, _, name = key.rpartition(".")
        layer = self.model.get_submodule(path)
        functions = getattr(layer, f"{name}_function", None)
        online = any(entry[-1] for entry in entries)
        if functions is not None and (online or not self.has_room()):
            functions[:] = [partial(self.merge_in_call, entries, key)]
            return
        weight = getattr(layer, name)
        self.backup.setdefault(key, SimpleNamespace(weight=weight.detach()))
        merged = self.merge(entries, weight.detach().clone(), key)
        setattr(layer, name, nn.Parameter(merged, requires_grad=False))

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        if not unpatch_weights:
            return
        for layer in self.model.modules():
            for name in ("weight_function", "bias_function"):
                if hasattr(layer, name):
                    getattr(layer, name).clear()
        put_back(self.model, {key: kept.weight for key, kept in self.backup.items()})
        self.backup.clear()
        self.model.current_weight_patches_uuid = None

    def detach(self, unpatch_all: bool = True) -> None:
        self.unpatch_model(self.offload_device, unpatch_weights=unpatch_all)

    @classmethod
    def merge_in_call(cls, entries: list[Any], key: str, weight: Tensor) -> Tensor:
        return cls.merge(entries, weight, key)

    @staticmethod
    def merge(entries: list[Any], weight: Tensor, key: str) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def has_room() -> bool:
        raise NotImplementedError


def put_back(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Makes weights the model's parameters of these names."""
    for key, weight in weights.items():
        *path, name = key.split(".")
        setattr(reduce(getattr, path, model), name, nn.Parameter(weight, requires_grad=False))

"""What lives on a device and in the host's memory while a network runs, without computing it.

Tensors on PyTorch's device "meta" have sizes and no values: they stand for the device's.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
_COPY = torch.ops.aten.copy_.default


class LiveBytes(TorchDispatchMode):
    """Counts the memory of the tensors that are made while it is entered.

    Attributes:
        most: The most bytes that lived at a time, by a device's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = {"meta": 0, "cpu": 0}
        self._now = dict(self.most)
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _COPY and args[0].device != DEVICE == args[1].device:
            return args[0]  # Nothing is to be copied.
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self._count(one.untyped_storage(), one.device.type)
        return made

    def _count(self, storage: torch.UntypedStorage, kind: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now[kind] += size
        self.most[kind] = max(self.most[kind], self._now[kind])
        weakref.finalize(storage, self._gone, key, size, kind)

    def _gone(self, key: int, size: int, kind: str) -> None:
        self._known.discard(key)
        self._now[kind] -= size

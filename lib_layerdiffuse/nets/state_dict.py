"""Strict, fast loading of a state dict into a network that was built without memory."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeVar

import torch

from ..errors import ChecksumError
from .exact_cast import CastsExactly

HINT = "Delete the file and download it again."

Net = TypeVar("Net", bound=CastsExactly)


def conv_weight(state_dict: Mapping[str, torch.Tensor], key: str) -> torch.Tensor:
    """Returns the convolution weight `out in kh kw` called `key`.

    Raises:
        ChecksumError: There is no such tensor, or it is not 4-D.
    """
    weight = state_dict.get(key)
    if weight is None:
        raise ChecksumError(f"The file is damaged or another one: it has no tensor {key}.", HINT)
    if weight.ndim != 4:
        shape = list(weight.shape)
        raise ChecksumError(f"The file is another one: its {key} is no convolution: {shape}.", HINT)
    return weight


def assign_strictly(net: Net, state_dict: Mapping[str, torch.Tensor]) -> Net:
    """Returns `net`, ready for inference, with the tensors of `state_dict` as its parameters.

    The tensors are used as they are, not copied; type and device stay theirs.

    Args:
        net: A network built on the meta device.
        state_dict: A tensor for each of its parameters.

    Raises:
        ChecksumError: A tensor is missing, surplus, of another shape, or not floating point.
    """
    expected = net.state_dict()
    shared = expected.keys() & state_dict.keys()
    faults = {
        "missing": expected.keys() - shared,
        "surplus": state_dict.keys() - shared,
        "of another shape": {k for k in shared if state_dict[k].shape != expected[k].shape},
        "not floating point": {k for k in shared if not state_dict[k].is_floating_point()},
    }
    if any(faults.values()):
        found = "; ".join(f"{fault}: {_names(keys)}" for fault, keys in faults.items() if keys)
        raise ChecksumError(
            f"The file is damaged or another one: of the {len(expected)} tensors of a "
            f"{type(net).__name__}, {found}.",
            HINT,
        )
    net.load_state_dict(state_dict, strict=True, assign=True)
    net.origin = lambda: state_dict
    return net.eval().requires_grad_(False)


def _names(keys: Set[str], limit: int = 4) -> str:
    """Returns the first few keys and how many more there are."""
    first, rest = sorted(keys)[:limit], len(keys) - limit
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")

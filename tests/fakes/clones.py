"""What the patchers of all stand-ins have in common: what a clone has for itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F


class WithOptions:
    """A patcher whose `model_options` change how its network is called."""

    model_options: dict[str, Any]

    def set_model_patch(self, patch: Any, name: str) -> None:
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches[name] = [*patches.get(name, []), patch]

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Any) -> None:
        self.model_options["model_function_wrapper"] = unet_wrapper_function


class WithMemory(WithOptions):
    """One that tells the memory manager what its network needs."""

    def memory_required(self, input_shape: list[int]) -> int:
        return input_shape[0] * input_shape[2] * input_shape[3]


class OfUnet:
    """Put before a host's patcher: other networks are brought to the device with the UNet."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.extra_model_patchers_during_sampling: list[Any] = []
        self.extra_concat_condition = None

    def clone(self) -> Any:
        twin = super().clone()  # type: ignore[misc]
        twin.extra_model_patchers_during_sampling = list(self.extra_model_patchers_during_sampling)
        twin.extra_concat_condition = self.extra_concat_condition
        return twin

    def add_extra_model_patcher_during_sampling(self, model_patcher: Any) -> None:
        self.extra_model_patchers_during_sampling.append(model_patcher)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Returns attention over `r n c`, by heads."""
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    return F.scaled_dot_product_attention(*split, attn_mask=mask).transpose(1, 2).flatten(2)

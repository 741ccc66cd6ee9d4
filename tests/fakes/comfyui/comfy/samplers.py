"""A sampler: what is loaded for it, in which order, and which options reach the UNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from comfy import model_management
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers


class CFGGuider:
    """Samples with a MODEL, from a list of sigmas."""

    def __init__(self, model_patcher: Any) -> None:
        self.model_patcher = model_patcher
        self.conds: dict[str, Any] = {"positive": [], "negative": []}

    def sample(self, noise: Tensor, sigmas: list[float], rows: list[Tensor]) -> Tensor:
        """Returns what each UNet call takes off the noise, summed up.

        Args:
            noise: `b c h w`.
            sigmas: One for each call.
            rows: The negative prompts' conditioning and the prompts', `b n d` each.
        """
        outer = get_all_wrappers(WrappersMP.OUTER_SAMPLE, {"wrappers": self.model_patcher.wrappers})
        executor = WrapperExecutor(self.outer_sample, self, outer)
        return executor.execute(noise, sigmas, rows)

    def outer_sample(self, noise: Tensor, sigmas: list[float], rows: list[Tensor]) -> Tensor:
        load_for_sampling(self.model_patcher)
        for sigma in sigmas:
            found = call_unet(self.model_patcher, noise, sigma, rows)
            noise = noise - found.chunk(len(rows))[-1] / 10
        return noise


def load_for_sampling(patcher: Any) -> None:
    """Loads a patcher and what it names beside it."""
    extras = [one for found in patcher.additional_models.values() for one in found]
    model_management.load_models_gpu([patcher, *extras])
    patcher.model.current_patcher = patcher


def call_unet(patcher: Any, x: Tensor, sigma: float, rows: list[Tensor]) -> Tensor:
    """Returns one UNet call's rows, for chunks of a batch: the negative ones come first."""
    options = dict(patcher.model_options.get("transformer_options", {}))
    options["wrappers"] = getattr(patcher, "wrappers", {})
    options["cond_or_uncond"] = [1, 0][: len(rows)] if len(rows) > 1 else [0]
    options["sigmas"] = torch.tensor([float(sigma)] * len(x))
    batch = torch.cat([x] * len(rows))
    sigmas = torch.full((len(batch),), float(sigma))
    wrapper = patcher.model_options.get("model_function_wrapper")
    c = {"c_crossattn": torch.cat(rows), "transformer_options": options}
    apply_model = patcher.model.apply_model
    if wrapper is None:
        return apply_model(batch, sigmas, **c)
    given = {"input": batch, "timestep": sigmas, "c": c}
    return wrapper(apply_model, given | {"cond_or_uncond": options["cond_or_uncond"]})

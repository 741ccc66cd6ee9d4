"""Test-only WebUI extension: a method's weights as hosts that merge them compute with them.

Those keep the sum of a parameter and what a method adds in the UNet's float16; where layers compute
with both beside each other nothing is rounded, which moves SDXL's latents by up to two hundredths.
``POST /e2e/rounding`` with ``{"on": true}`` rounds there, too, so that the rest can be compared, at
the full weight.
"""

from __future__ import annotations

import sys
from functools import reduce
from typing import Any

import torch
from modules import script_callbacks

LAYERS = "lib_layerdiffuse.hosts.a1111.patched_layers"


def change(parameter: torch.Tensor, factors: list[torch.Tensor]) -> torch.Tensor:
    """Returns what a merge in float16 adds to a parameter."""
    delta = reduce(lambda product, factor: factor @ product, factors)
    before = torch.zeros_like(delta)
    before[tuple(slice(side) for side in parameter.shape)] = parameter
    return (before + delta).half().float() - before


def add_route(demo: Any, app: Any) -> None:
    """Adds the switch."""
    plain: dict[str, Any] = {}

    @app.post("/e2e/rounding")
    def rounding(body: dict[str, bool]) -> dict[str, bool]:
        layers = sys.modules[LAYERS]
        plain.setdefault("product", layers.PatchedLayer._product)
        plain.setdefault("bias", layers._bias)

        def product(self: Any, x: torch.Tensor, factors: list[torch.Tensor]) -> torch.Tensor:
            return plain["product"](self, x, [change(self._layer.weight, factors)])

        def bias(layer: Any, delta: torch.Tensor) -> torch.Tensor:
            return plain["bias"](layer, change(layer.bias, [delta]))

        layers.PatchedLayer._product = product if body["on"] else plain["product"]
        layers._bias = bias if body["on"] else plain["bias"]
        return {"on": body["on"]}


script_callbacks.on_app_started(add_route)

"""Layers whose weight may not be all that they compute with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

Conv2d = nn.Conv2d


class Linear(nn.Linear):
    """Adds LoRAs that the host applies on the fly, which its weight does not show."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        for strength, (_, parts), *_ in getattr(self, "forge_online_loras", {}).get("weight", []):
            weight = weight + strength * (parts[0] @ parts[1])
        return F.linear(x, weight, self.bias)

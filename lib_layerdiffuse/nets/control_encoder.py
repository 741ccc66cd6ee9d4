"""The control encoder of SD1.5 attention sharing, and each layer's convolutions over its signals.

Source: the released files' `kwargs_encoder.*` and `control_convs.*` keys and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .exact_cast import CastsExactly


class _Conv(CastsExactly, nn.Conv2d):
    """A convolution of a file."""


def _conv(tensors: Mapping[str, Tensor], key: str, stride: int = 1) -> nn.Conv2d:
    of_file = {name: tensors[f"{key}.{name}"] for name in ("weight", "bias")}
    out, channels, size, _ = of_file["weight"].shape
    conv = _Conv(channels, out, size, stride, size // 2, device="meta")
    conv.load_state_dict(of_file, assign=True)
    conv.origin = lambda: of_file
    return conv.requires_grad_(False)


def control_convs(tensors: Mapping[str, Tensor], frames: int) -> nn.ModuleList:
    keys = [f"control_convs.{f}" for f in range(frames)]
    return nn.ModuleList(
        nn.Sequential(_conv(tensors, f"{key}.0"), nn.SiLU(), _conv(tensors, f"{key}.2"))
        for key in keys
        if f"{key}.0.weight" in tensors
    )


class ControlEncoder(nn.Module):
    """Turns the control image into one signal for each of the UNet's four levels."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for i in indices
                    for layer in (
                        _conv(tensors, f"blocks_{s}.{i}", 2 if i in halve else 1),
                        nn.SiLU(),
                    )
                )
            )
            for s, indices, halve in (
                (0, range(0, 16, 2), (4, 8, 12)),
                *((s, (0, 2), (0,)) for s in (1, 2, 3)),
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the signals at 1/8, 1/16, 1/32 and 1/64 (rounded up), each `1 c h w`.

        Args:
            image: The control image in [-1, 1], `1 3 H W`; a foreground is premultiplied
                on 0.5 grey.
        """
        signals = []
        for stage in self.stages:
            image = stage(image)
            signals.append(image)
        return signals

"""The decoder's network compiled for an image's size, where PyTorch can do that."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import first_line
from .full_memory import is_memory_error, let_go
from .unet1024 import UNet1024

_SHAPES = 4
"""How many shapes are compiled. PyTorch keeps eight programs of a function, for two decoders."""


class CompiledNet:
    """Makes what a network makes, with programs that PyTorch compiles of it for each shape.

    Where it does not come to that, the network runs strip by strip: where whole maps do not fit
    into what is free, after the first few shapes, and for good once a compilation has failed.

    Args:
        net: The network. It may be moved to another device or type at any time.
    """

    def __init__(self, net: UNet1024) -> None:
        self._net = net
        self._program: Callable[[Tensor, Tensor], Tensor] | None = None
        self._known: set[object] = set()
        self._failed = False

    def __call__(
        self, pixels: Tensor, latent: Tensor, free: int | None, tell: Callable[[str], object]
    ) -> Tensor:
        """Returns `b 4 H W`, as the network does; for inference.

        Args:
            pixels: As for the network; likewise `latent` and `free`.
            latent: See there.
            free: See there.
            tell: Told, at the first failure, that nothing is compiled, a sentence for the user.
        """
        if self._compiles(pixels, free):
            try:
                return self._by_program(pixels, latent)
            except Exception as error:  # Each of PyTorch's compilers has its own.
                if not is_memory_error(error):
                    self._failed, self._program = True, None
                    tell(_told(error))
                let_go(error)
        made: Tensor = self._net(pixels, latent, free)
        return made

    def _compiles(self, pixels: Tensor, free: int | None) -> bool:
        """Whether a shape is one of the compiled ones, or becomes one."""
        like = self._net.conv_in.weight
        shape = pixels.shape, like.dtype, like.device
        few = shape in self._known or len(self._known) < _SHAPES
        b, _, height, width = pixels.shape
        if self._failed or not few or not self._net.fits_whole(b * height * width, free):
            return False
        self._known.add(shape)
        return True

    def _by_program(self, pixels: Tensor, latent: Tensor) -> Tensor:
        if self._program is None:
            self._program = torch.compile(self._net.whole, dynamic=False, fullgraph=True)
        return self._program(pixels, latent)


def _told(error: Exception) -> str:
    inner = getattr(error, "inner_exception", None)
    why = first_line(inner if isinstance(inner, Exception) else error)
    return (
        f"the transparent decoder could not be compiled ({why}), so it computed strip by strip, "
        "with the same result. Compiling takes PyTorch 2.3 and a C++ compiler, and Triton on a GPU."
    )

"""`UnetCall`: what ComfyUI gives a wrapper around each call of the UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class UnetCall:
    """One call.

    Attributes:
        executor: What goes on with it; its `class_obj` is the model.
        x: The noisy latent, `b c h w`, before it is scaled.
        sigmas: Of each row.
        concat: What stands beside the latent.
        context: The prompts' tokens, `b n d`.
        control: What a ControlNet adds.
        options: The transformer's.
        more: What else the model is given, by name.
    """

    executor: Any
    x: Tensor
    sigmas: Tensor
    concat: Any
    context: Any
    control: Any
    options: dict[str, Any]
    more: Mapping[str, Any]

    def run(self) -> Any:
        """Returns what the UNet gives."""
        given = self.concat, self.context, self.control, self.options
        return self.executor(self.x, self.sigmas, *given, **self.more)


def wrapper(around: Callable[[UnetCall], Any]) -> Callable[..., Any]:
    """Returns a function as ComfyUI's wrapper around UNet calls."""

    def wrapped(
        executor: Any,
        x: Tensor,
        sigmas: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **more: Any,
    ) -> Any:
        options = transformer_options or {}
        return around(UnetCall(executor, x, sigmas, c_concat, c_crossattn, control, options, more))

    return wrapped

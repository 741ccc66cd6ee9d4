"""What other extensions have put on a UNet that a method cannot work with, and whose it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor

from ...errors import MissingCapabilityError
from ...host import Injection

Named = Callable[[str], str]
"""Returns what a user calls the extension that a file of code belongs to."""

ApplyModel = Callable[..., Tensor]
UnetCall = Callable[[ApplyModel, dict[str, Any]], Tensor]

_RESIZING = ("input_block_patch", "input_block_patch_after_skip")
_SPLIT = "sample the image part by part, where the given image is whole"


def check_others(model_options: Any, injection: Injection, named: Named) -> None:
    """Checks what a UNet has been given before a method is put on it.

    Args:
        model_options: Those of the host's patcher.
        injection: The method.
        named: Tells whose a file of code is.

    Raises:
        MissingCapabilityError: It would take the method's effect on attention away, or its layers
            and the given image would not meet; the message names the extension.
    """
    if injection.sharing is None:
        return
    options = model_options.get("transformer_options", {})
    replaced = options.get("patches_replace", {})
    _refuse(
        [patch for name in ("attn1", "attn2") for patch in replaced.get(name, {}).values()],
        "replace the attention that its layers share",
        named,
    )
    if injection.control is None:
        return
    patches = options.get("patches", {})
    changing = [patch for name in _RESIZING for patch in patches.get(name, ())]
    _refuse(
        [*changing, *options.get("block_modifiers", ())],
        "change sizes inside the UNet, where the given image would not fit",
        named,
    )
    if model_options.get("tiled_diffusion"):
        wrapper = model_options.get("model_function_wrapper")
        _refuse([wrapper], _SPLIT, named)


def inner_call(unet: Any, injection: Injection, named: Named) -> UnetCall:
    """Returns how a UNet is called below a method: by the wrapper that is on it, if any.

    A wrapper may call the UNet for parts of the image. A method with a given image cannot work
    with that, unless the given one is cut likewise.

    Args:
        unet: The host's patcher.
        injection: The method.
        named: As in `check_others`.
    """
    wrapper: UnetCall | None = unet.model_options.get("model_function_wrapper")
    if wrapper is None:
        return _plain_call

    def call(apply_model: ApplyModel, args: dict[str, Any]) -> Tensor:
        def apply(x: Tensor, t: Tensor, **c: Any) -> Tensor:
            whole = c.get("c_concat") if injection.control is None else args["input"]
            if whole is not None and x.shape[2:] != whole.shape[2:]:
                _refuse([wrapper], _SPLIT, named)
            return apply_model(x, t, **c)

        return wrapper(apply, args)

    return call


def _plain_call(apply_model: ApplyModel, args: dict[str, Any]) -> Tensor:
    return apply_model(args["input"], args["timestep"], **args["c"])


def _refuse(things: Iterable[Any], would: str, named: Named) -> None:
    names = list(dict.fromkeys(named(file_of(thing)) for thing in things))
    if names:
        raise refusal(" and ".join(names), would)


def refusal(listed: str, would: str) -> MissingCapabilityError:
    """Returns what is raised for other extensions, by their names and what they would do."""
    return MissingCapabilityError(
        f"This method does not work with {listed}, which would {would}.",
        f"Turn off {listed}.",
    )


def file_of(thing: Any) -> str:
    """Returns the file that defines what can be called; empty where it is not known."""
    while isinstance(thing, partial):
        thing = thing.func
    code = getattr(getattr(thing, "__func__", thing), "__code__", None)
    if code is None:
        methods = vars(type(thing)).values()
        code = next((m.__code__ for m in methods if hasattr(m, "__code__")), None)
    if code is not None:
        return str(code.co_filename)
    module = sys.modules.get(getattr(type(thing), "__module__", ""))
    return str(getattr(module, "__file__", None) or "")

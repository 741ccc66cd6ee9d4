"""Checks of the adapter in a WebUI's own patcher, on a small UNet: seconds instead of minutes.

    cd WEBUI; venv/bin/python …/tests/e2e/patcher_check.py ARGUMENTS-OF-THE-WEBUI

Runs in the WebUI's interpreter, without its server, and ends with an error if a check fails.

Environment:
    LAYERDIFFUSE_E2E_RESULTS: File to write what the UNet gave with each method to, an ``.npz``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT, WEBUI = Path(__file__).parents[2], Path.cwd()
THEIRS = ("modules_forge/packages", "packages_3rdparty")  # Where it keeps copies of libraries.
sys.path[:0] = [str(WEBUI), *(str(WEBUI / folder) for folder in THEIRS)]

import numpy as np  # noqa: E402
import torch  # noqa: E402

BY_LDM = find_spec("ldm_patched") is not None
if BY_LDM:  # It reads the command line when it is told to, which must be before its other modules.
    from ldm_patched.modules import args_parser

    args_parser.args, _ = args_parser.parser.parse_known_args()
FAKES = ROOT / "tests" / "fakes"
PARTS = FAKES / ("ldm_parts" if BY_LDM else "forge_backend")
sys.path += [str(folder) for folder in (ROOT, FAKES, PARTS, FAKES / "checkpoint")]

import patcher_parts  # noqa: E402
from patcher_run import HIGH, LOW, Run, injection, near  # noqa: E402

from lib_layerdiffuse.errors import HostError  # noqa: E402
from lib_layerdiffuse.methods import METHODS, LayerMethod, find_method  # noqa: E402
from lib_layerdiffuse.weights.patches import LoRA  # noqa: E402

WIDER = find_method("fg_blended_to_bg_sdxl")
RESULTS: dict[str, np.ndarray] = {}
KEY = "diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_k.weight"


class RealRun(Run):
    """A small checkpoint in the host's own patcher."""

    def open(self, method: LayerMethod) -> RealRun:
        """Makes a checkpoint whose weights are filled: the host's layers leave theirs empty."""
        super().open(method)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.plain.model.parameters():
            size = max(1, parameter[0].numel()) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / size)
        type(self.plain.model).memory_required = lambda self, input_shape: 1000
        self.before = self.snapshot()
        return self

    def assert_bits(self, before: dict[str, torch.Tensor]) -> None:
        """Checks the UNet's weights, once the host has loaded the plain one again."""
        self.tiny.load_for_sampling(self.plain)
        for key, value in self.plain.model.named_parameters():
            assert torch.equal(value, before[key]), key

    def bits(self) -> dict[str, torch.Tensor]:
        """Returns a copy of the UNet's weights."""
        return {key: value.clone() for key, value in self.plain.model.named_parameters()}


def every_method_acts_stops_and_leaves_nothing(run: RealRun) -> None:
    for method in METHODS:
        before = run.open(method).bits()
        run.load(injection(method, stop_at=0.5))
        acting, stopped, again = (
            run.call(sigma, frames=method.frames) for sigma in (HIGH, LOW, HIGH)
        )
        assert torch.equal(acting, again), method.id
        run.attachment.detach()
        run.assert_bits(before)
        plain = [run.call(s, unet=run.plain, frames=method.frames) for s in (HIGH, LOW)]
        assert not torch.allclose(acting, plain[0], atol=1e-3), method.id
        assert torch.equal(stopped, plain[1]), method.id
        RESULTS[method.id] = acting.numpy()


def weights_are_merged_at_their_strength(run: RealRun) -> None:
    before = run.open(WIDER).bits()
    run.load(injection(WIDER, strength=0.5))
    merged = dict(run.plain.model.named_parameters())
    for key, patch in injection(WIDER).patches.items():
        wanted = 0.5 * (patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta)
        wanted[:, : before[key].shape[1]] += before[key]
        torch.testing.assert_close(merged[key], wanted)


def a_users_lora_stays_bit_for_bit(run: RealRun) -> None:
    run.open(WIDER)
    run.add_lora(KEY, LoRA(torch.randn(16, 2), torch.randn(2, 16)))
    run.tiny.load_for_sampling(run.plain)
    before, wanted = run.bits(), run.call(LOW, unet=run.plain)
    run.load(injection(WIDER)).call(HIGH)
    run.attachment.detach()
    run.assert_bits(before)
    assert torch.equal(run.call(LOW, unet=run.plain), wanted)


def what_is_accepted_and_not_merged_is_an_error(run: RealRun) -> None:
    before = run.open(WIDER).bits()
    with _instead(*patcher_parts.MERGE, _unmerged):
        run.load(injection(WIDER))
        told = ""
        try:
            run.call(HIGH)
        except HostError as error:
            told = str(error)
        assert "has not merged" in told
    run.attachment.detach()
    run.assert_bits(before)


def a_merge_that_is_broken_off_is_undone(run: RealRun) -> None:
    before, merges = run.open(WIDER).bits(), []

    def interrupted(inner: Callable[..., Any], *parts: Any, **more: Any) -> Any:
        if len(merges) == 2:
            raise KeyboardInterrupt
        merges.append(parts)
        return inner(*parts, **more)

    attachment = run.host.attach(injection(WIDER))
    with _instead(*patcher_parts.MERGE, interrupted):
        try:
            run.tiny.load_for_sampling(attachment.unet)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("nothing was merged")
    attachment.detach()
    run.assert_bits(before)


def weights_that_do_not_fit_are_merged_in_each_call(run: RealRun) -> None:
    wanted = run.open(WIDER).load(injection(WIDER)).call(HIGH)
    before = run.open(WIDER).bits()

    def load(inner: Callable[..., Any], *parts: Any, **more: Any) -> Any:
        return inner(*parts, **more | {"lowvram_model_memory": 0.1, "full_load": False})

    with _instead(patcher_parts.ModelPatcher, "load", load):
        run.load(injection(WIDER))
        assert run.plain.model.model_lowvram
        assert torch.equal(dict(run.plain.model.named_parameters())[KEY], before[KEY])
        near(run.call(HIGH), wanted)
    run.attachment.detach()
    run.assert_bits(before)


def _unmerged(_: Callable[..., Any], *parts: Any, **more: Any) -> Any:
    """Returns the weight, which is the one tensor among what a merge is given."""
    (weight,) = (part for part in parts if isinstance(part, torch.Tensor))
    return weight


@contextmanager
def _instead(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Makes calls go to `function`, which takes what stood there first."""
    inner = getattr(owner, name)

    def call(*parts: Any, **more: Any) -> Any:
        return function(inner, *parts, **more)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, inner)


CHECKS = [
    every_method_acts_stops_and_leaves_nothing,
    weights_are_merged_at_their_strength,
    a_users_lora_stays_bit_for_bit,
    what_is_accepted_and_not_merged_is_an_error,
    a_merge_that_is_broken_off_is_undone,
]
if hasattr(patcher_parts.Linear, "weight_function"):
    CHECKS.append(weights_that_do_not_fit_are_merged_in_each_call)

if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        for check in CHECKS:
            check(RealRun())
            print(f"checked: {check.__name__}", flush=True)
    np.savez(os.environ["LAYERDIFFUSE_E2E_RESULTS"], **RESULTS)

"""The control image and its signals agree with another program; see original/README.md."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sharing_golden as made
import torch
from safetensors.torch import load_file
from torch import Tensor

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.nets.control_encoder import ControlEncoder
from lib_layerdiffuse.pipeline import inject
from lib_layerdiffuse.settings.layer_settings import LayerSettings

GOLDEN = load_file(Path(__file__).parent / "original" / "control.safetensors")
TOLERANCE = 1e-4


def control_of(rgba: Tensor) -> Tensor:
    """Returns what a job with this foreground gives to the control encoder."""
    method = find_method("fg_to_bg_sd15")
    settings = LayerSettings(enabled=True, method=method, fg_image=rgba.numpy())
    session: Any = SimpleNamespace(weights=lambda _: Injection(method, 1.0, "golden", 1.0))
    host: Any = None
    control = inject(settings, session, host, rgba.shape[1], rgba.shape[0]).control
    assert control is not None
    return control


def signals(control: Tensor) -> list[Tensor]:
    file = {k.removeprefix("kwargs_encoder."): t for k, t in made.encoder_weights().items()}
    with torch.no_grad():
        return ControlEncoder(file)(control)


def errors(found: list[Tensor]) -> list[float]:
    """Returns each signal's largest difference, relative to its largest number."""
    wanted = [GOLDEN[f"signal.{i}"] for i in range(4)]
    pairs = zip(found, wanted, strict=True)
    return [float((got - want).abs().max() / want.abs().max()) for got, want in pairs]


def test_a_foreground_is_laid_on_grey() -> None:
    want = GOLDEN["flat"].permute(2, 0, 1).unsqueeze(0) * 2 - 1
    torch.testing.assert_close(control_of(GOLDEN["rgba"]), want, rtol=0, atol=1e-6)


def test_the_four_signals() -> None:
    found = signals(control_of(GOLDEN["rgba"]))
    assert [tuple(s.shape[2:]) for s in found] == list(made.CELLS)
    assert max(errors(found)) <= TOLERANCE


@pytest.mark.parametrize("wrong", ["mirrored", "in [0, 1]", "alpha ignored"])
def test_golden_can_tell_another_picture(wrong: str) -> None:
    rgba = GOLDEN["rgba"].clone()
    if wrong == "alpha ignored":
        rgba[..., 3] = 255
    control = control_of(rgba)
    if wrong == "mirrored":
        control = control.flip(3)
    if wrong == "in [0, 1]":
        control = (control + 1) / 2
    assert min(errors(signals(control))) > 10 * TOLERANCE

"""Weight patches merge as in another program; see original/README.md."""

from __future__ import annotations

import json
from pathlib import Path

import formula
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from lib_layerdiffuse.hosts.diffusers.patching import patched_parameter
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.weights.patches import CONV_IN, LoRA, WeightPatch, read_patches

TOLERANCE = 1e-4
with safe_open(Path(__file__).parent / "original" / "patches.safetensors", "pt") as file:
    BASE, FILES = (json.loads(file.metadata()[key]) for key in ("base", "files"))
    GOLDEN = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
CASES = [(method, strength) for method in FILES for strength in (1.0, 0.6, 1.7)]


def patches_of(method: str) -> dict[str, WeightPatch]:
    tensors = {
        k: formula.weight(f"{method}.{k}", tuple(shape)) for k, shape in FILES[method].items()
    }
    return read_patches(tensors, find_method(method))


def merged(key: str, patch: WeightPatch, strength: float) -> Tensor:
    """Returns the weight that the standalone host computes with."""
    module = nn.Module()
    plain = nn.Parameter(formula.weight(key, tuple(BASE[key])), requires_grad=False)
    module.register_parameter("weight", plain)
    stand_in = patched_parameter(key, module, "weight", patch, strength, torch.device("cpu"))
    stand_in.put(patched=True)
    return module.get_parameter("weight").detach()


def error(got: Tensor, want: Tensor) -> float:
    """Returns the largest difference, relative to the largest number."""
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize(("method", "strength"), CASES)
def test_each_weight_agrees(method: str, strength: float) -> None:
    patches = patches_of(method)
    wanted = {key for key in GOLDEN if key.startswith(f"{method}.{strength}.")}
    assert {f"{method}.{strength}.{key}" for key in patches} == wanted
    for key, patch in patches.items():
        got, want = merged(key, patch, strength), GOLDEN[f"{method}.{strength}.{key}"]
        assert got.shape == want.shape, key
        assert error(got, want) <= TOLERANCE, key


@pytest.mark.parametrize("key", [key for key in BASE if ".attn" in key])
def test_golden_can_tell_a_scaled_or_turned_lora(key: str) -> None:
    patch = patches_of("fg_attn_sdxl")[key]
    assert isinstance(patch, LoRA)
    want = GOLDEN[f"fg_attn_sdxl.1.0.{key}"]
    scaled = LoRA(patch.up / patch.up.shape[1], patch.down)
    assert error(merged(key, scaled, 1.0), want) > 100 * TOLERANCE
    if BASE[key][0] == BASE[key][1]:
        turned = LoRA(patch.down.T, patch.up.T)
        assert error(merged(key, turned, 1.0), want) > 100 * TOLERANCE


@pytest.mark.parametrize(("method", "strength"), CASES)
def test_golden_can_tell_another_strength(method: str, strength: float) -> None:
    for key, patch in patches_of(method).items():
        want = GOLDEN[f"{method}.{strength}.{key}"]
        assert error(merged(key, patch, strength + 0.1), want) > 10 * TOLERANCE, key


def test_golden_can_tell_where_the_new_channels_are() -> None:
    want = GOLDEN[f"bg_blended_to_fg_sdxl.1.0.{CONV_IN}"]
    plain = formula.weight(CONV_IN, tuple(BASE[CONV_IN]))
    delta = patches_of("bg_blended_to_fg_sdxl")[CONV_IN].delta
    at_the_end = torch.cat([torch.zeros_like(delta[:, :8]), plain], dim=1) + delta
    assert error(at_the_end, want) > 100 * TOLERANCE

import re

import pytest
import torch
from tiny_weights import LORA_KEYS, patch_file

from lib_layerdiffuse.errors import ChecksumError
from lib_layerdiffuse.methods import METHODS, PatchKind, find_method
from lib_layerdiffuse.weights.patches import (
    ATTENTION_SLOTS,
    CONV_IN,
    Diff,
    LoRA,
    check_shape,
    read_patches,
)

ATTN = find_method("fg_attn_sdxl")
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")
BY_WEIGHTS = [m for m in METHODS if m.patch is PatchKind.WEIGHTS]


@pytest.mark.parametrize("method", BY_WEIGHTS, ids=lambda m: m.id)
def test_each_methods_file_is_read(method):
    patches = read_patches(patch_file(method), method)
    assert {k for k, p in patches.items() if isinstance(p, LoRA)} == set(LORA_KEYS)
    diffs = {k: p.delta.shape[1] for k, p in patches.items() if isinstance(p, Diff)}
    wanted = {CONV_IN: 4 + 4 * len(method.inputs)} if method.inputs else {}
    assert diffs == wanted


def test_up_is_slot_0_and_down_is_slot_1():
    up, down = torch.ones(5, 2), torch.zeros(2, 7)
    patch = read_patches({"a::lora::1": down, "a::lora::0": up}, ATTN)["a"]
    assert patch.up is up
    assert patch.down is down


def test_a_first_convolution_may_keep_its_channels():
    conv = {f"{CONV_IN}::diff::0": torch.zeros(16, 4, 3, 3)}
    assert read_patches(conv, find_method("fg_conv_sdxl")).keys() == {CONV_IN}


@pytest.mark.parametrize(
    "names",
    [
        ["a::lora::0"],
        ["a::lora::0", "a::lora::1", "a::lora::2"],
        ["a::lora::0", "a::lora::1", "a::diff::0"],
        ["a::diff::1"],
        ["a::loha::0"],
        ["a"],
    ],
)
def test_other_layouts_are_refused_and_named(names):
    good = {"b::diff::0": torch.zeros(2, 2)}
    with pytest.raises(ChecksumError, match="it holds a") as caught:
        read_patches(good | {name: torch.zeros(2, 2) for name in names}, ATTN)
    assert caught.value.hint


@pytest.mark.parametrize(("made_for", "used_for"), [(TWO_PICTURES, ATTN), (ATTN, TWO_PICTURES)])
def test_a_file_for_other_inputs_is_refused(made_for, used_for):
    wanted, got = (4 + m.concat_channels for m in (used_for, made_for))
    with pytest.raises(ChecksumError, match=f"takes {got} channels, .* takes {wanted}"):
        read_patches(patch_file(made_for), used_for)


def test_the_attention_slots_stand_in_the_files_order():
    assert len(ATTENTION_SLOTS) == len(set(ATTENTION_SLOTS)) == 32
    assert ATTENTION_SLOTS[0] == "input_blocks.1.1.transformer_blocks.0.attn1"
    assert ATTENTION_SLOTS[11] == "input_blocks.8.1.transformer_blocks.0.attn2"
    assert ATTENTION_SLOTS[12] == "output_blocks.3.1.transformer_blocks.0.attn1"
    assert ATTENTION_SLOTS[31] == "middle_block.1.transformer_blocks.0.attn2"


@pytest.mark.parametrize(
    ("key", "patch", "shape"),
    [
        (CONV_IN, Diff(torch.zeros(8, 12, 3, 3)), (8, 4, 3, 3)),
        (CONV_IN, Diff(torch.zeros(8, 4, 3, 3)), (8, 4, 3, 3)),
        ("a.weight", LoRA(torch.zeros(8, 2), torch.zeros(2, 6)), (8, 6)),
        ("a.bias", Diff(torch.zeros(8)), (8,)),
    ],
)
def test_patches_of_a_parameters_shape_fit(key, patch, shape):
    check_shape(key, patch, shape)


@pytest.mark.parametrize(
    ("key", "patch", "shape"),
    [
        ("a.weight", Diff(torch.zeros(8, 12, 3, 3)), (8, 4, 3, 3)),
        (CONV_IN, Diff(torch.zeros(8, 3, 3, 3)), (8, 4, 3, 3)),
        (CONV_IN, Diff(torch.zeros(7, 12, 3, 3)), (8, 4, 3, 3)),
        (CONV_IN, Diff(torch.zeros(8, 12, 1, 1)), (8, 4, 3, 3)),
        ("a.weight", LoRA(torch.zeros(8, 2), torch.zeros(3, 6)), (8, 6)),
        ("a.weight", LoRA(torch.zeros(8, 2), torch.zeros(2, 5)), (8, 6)),
        ("a.bias", Diff(torch.zeros(8, 1)), (8,)),
    ],
    ids=["wider", "narrower", "fewer", "other kernel", "broken LoRA", "other LoRA", "more axes"],
)
def test_others_are_refused_by_the_parameters_name(key, patch, shape):
    with pytest.raises(ChecksumError, match=f"{re.escape(key)} has the shape"):
        check_shape(key, patch, shape)

"""Which method goes on where another one ends."""

from __future__ import annotations

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import METHODS, Layer, find_method
from lib_layerdiffuse.settings.chains import (
    SECOND_STEPS,
    begins_chain,
    check_chain,
    next_method,
    prompted_layers,
    second_method,
    second_settings,
    step_prompt,
)
from lib_layerdiffuse.settings.layer_settings import LayerSettings

FG, BG, BLENDED = Layer.FG, Layer.BG, Layer.BLENDED
PAIRS = {
    "fg_to_blended_sdxl": "fg_blended_to_bg_sdxl",
    "bg_to_blended_sdxl": "bg_blended_to_fg_sdxl",
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_two_methods_begin_a_chain(method):
    assert begins_chain(method) == (method.id in PAIRS)
    if begins_chain(method):
        after = second_method(method)
        assert after.id == PAIRS[method.id]
        assert after.id in SECOND_STEPS
        assert {*method.inputs, *method.outputs, *after.outputs} == set(Layer)
        return
    with pytest.raises(SettingsError, match="has no other layer to extract") as caught:
        second_method(method)
    assert caught.value.field == "method"
    assert "bg_to_blended_sdxl" in caught.value.hint


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_a_chain_is_refused_only_where_it_is_asked_for(method):
    check_chain(LayerSettings(method=method))
    if method.id in PAIRS:
        check_chain(LayerSettings(method=method, chain=True))
    else:
        with pytest.raises(SettingsError):
            check_chain(LayerSettings(method=method, chain=True))


def test_a_chain_takes_the_prompts_of_both_steps():
    first = find_method("bg_to_blended_sdxl")
    assert prompted_layers(first, False) == ()
    assert prompted_layers(first, True) == (BLENDED, FG)
    joint = find_method("joint_sd15")
    assert prompted_layers(joint, True) == prompted_layers(joint, False) == joint.outputs


def test_the_second_step_keeps_what_does_not_belong_to_the_first():
    first = find_method("fg_to_blended_sdxl")
    given = {"method": first, "weight": 0.5, "ending_step": 0.25, "fg_image": "f", "chain": True}
    given |= {"resize_mode": "Just Resize", "bg_prompt": "x", "show_matte": True}
    settings = second_settings(LayerSettings.from_args([given]), "b")
    assert settings.method.id == PAIRS[first.id]
    assert (settings.strength, settings.stop_at, settings.chain) == (0.5, 0.5, False)
    assert (settings.fg_image, settings.blended_image, settings.show_matte) == ("f", "b", True)
    assert settings.resize_mode.value == "Just Resize"
    assert not any(settings.prompt(layer) for layer in Layer)
    assert second_settings(LayerSettings.from_args([given]), stop_at=0.0).stop_at == 0


def test_prompts_are_joined_where_there_are_two():
    joined = [step_prompt(own, main) for own, main in (("a", "b"), ("", "b"), ("a", ""), ("", ""))]
    assert joined == ["a, b", "b", "a", ""]


NEXT = [
    # The slot, what made the result, what is chosen, the other slots that are filled, what is next
    (FG, "fg_attn_sdxl", "fg_attn_sdxl", "", "fg_to_blended_sdxl"),
    (FG, "fg_conv_sdxl", "fg_conv_sdxl", "bg", "fg_to_blended_sdxl"),
    (FG, "fg_attn_sdxl", "fg_blended_to_bg_sdxl", "blended", "fg_blended_to_bg_sdxl"),
    (FG, "fg_attn_sdxl", "fg_blended_to_bg_sdxl", "", "fg_to_blended_sdxl"),
    (BLENDED, "bg_to_blended_sdxl", "bg_to_blended_sdxl", "bg", "bg_blended_to_fg_sdxl"),
    (BLENDED, "bg_to_blended_sdxl", "bg_to_blended_sdxl", "fg bg", "bg_blended_to_fg_sdxl"),
    (BLENDED, "bg_to_blended_sdxl", "fg_attn_sdxl", "fg", "bg_blended_to_fg_sdxl"),
    (BLENDED, "fg_to_blended_sdxl", "fg_to_blended_sdxl", "fg bg", "fg_blended_to_bg_sdxl"),
    (BG, "fg_blended_to_bg_sdxl", "fg_blended_to_bg_sdxl", "fg blended", "bg_to_blended_sdxl"),
    (FG, "bg_blended_to_fg_sdxl", "bg_to_blended_sdxl", "bg blended", "fg_to_blended_sdxl"),
    (FG, "fg_attn_sd15", "fg_attn_sdxl", "", "fg_to_bg_sd15"),
    (BG, "joint_sd15", "joint_sd15", "", "bg_to_fg_sd15"),
    (BLENDED, "joint_sd15", "joint_sd15", "fg", "fg_blended_to_bg_sdxl"),
    (BG, None, "fg_attn_sd15", "", "bg_to_fg_sd15"),
    (BG, None, "fg_attn_sdxl", "", "bg_to_blended_sdxl"),
    (BLENDED, None, "bg_blended_to_fg_sdxl", "bg", "bg_blended_to_fg_sdxl"),
    (BLENDED, None, "fg_attn_sdxl", "bg", "bg_blended_to_fg_sdxl"),
]


@pytest.mark.parametrize(("layer", "made", "current", "filled", "wanted"), NEXT)
def test_what_comes_next(layer, made, current, filled, wanted):
    found = next_method(
        layer,
        made=find_method(made) if made else None,
        current=find_method(current),
        filled={Layer(name) for name in filled.split()},
    )
    assert found.id == wanted


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("made", METHODS, ids=lambda m: m.id)
def test_what_comes_next_takes_the_layer_and_stays_in_the_family_if_it_can(layer, made):
    found = next_method(layer, made=made, current=made, filled=set())
    assert layer in found.inputs
    there = any(layer in m.inputs for m in METHODS if m.arch is made.arch)
    assert (found.arch is made.arch) == there

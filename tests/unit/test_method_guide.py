import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.methods import METHODS, Arch, find_method
from lib_layerdiffuse.settings.guide import family_first, mismatch, outcome, sibling


@pytest.mark.parametrize("arch", Arch)
def test_a_family_comes_first_and_order_stays_within_each(arch):
    first = [m for m in METHODS if m.arch is arch]
    assert list(family_first(arch)) == first + [m for m in METHODS if m.arch is not arch]
    assert family_first(None) == METHODS


def test_siblings_start_and_end_alike_in_the_other_family():
    others = {method.id: sibling(method) for method in METHODS}
    assert {id: other and other.id for id, other in others.items()} == {
        "fg_attn_sd15": "fg_attn_sdxl",
        "fg_to_bg_sd15": "fg_to_blended_sdxl",
        "bg_to_fg_sd15": "bg_to_blended_sdxl",
        "joint_sd15": None,
        "fg_attn_sdxl": "fg_attn_sd15",
        "fg_conv_sdxl": "fg_attn_sd15",
        "fg_to_blended_sdxl": "fg_to_bg_sd15",
        "fg_blended_to_bg_sdxl": None,
        "bg_to_blended_sdxl": "bg_to_fg_sd15",
        "bg_blended_to_fg_sdxl": None,
    }


@pytest.mark.parametrize(
    ("method", "loaded", "said"),
    [
        ("fg_attn_sdxl", None, ()),
        ("fg_attn_sdxl", Arch.SDXL, ()),
        (
            "fg_attn_sdxl",
            Arch.SD15,
            ("This method needs SDXL; the loaded checkpoint is SD1.5.",),
        ),
        (
            "joint_sd15",
            Arch.SDXL,
            (
                "This method needs SD1.5; the loaded checkpoint is SDXL.",
                "SDXL has no such method.",
            ),
        ),
    ],
)
def test_what_speaks_against_a_method(method, loaded, said):
    assert mismatch(find_method(method), loaded) == said


@pytest.mark.parametrize(
    ("method", "sets", "extras", "said"),
    [
        ("fg_attn_sdxl", 1, 0, "1 set × 1 layer = 1 image : Foreground (RGBA)"),
        (
            "joint_sd15",
            2,
            0,
            "2 sets × 3 layers = 6 images : Foreground (RGBA) , Background , Blended",
        ),
        ("fg_to_bg_sd15", 1, 1, "1 set × 2 layers = 2 images + 1 extra : Background , Blended"),
        ("fg_attn_sd15", 3, 2, "3 sets × 1 layer = 3 images + 6 extras : Foreground (RGBA)"),
    ],
)
def test_what_a_job_makes(method, sets, extras, said):
    assert " ".join(outcome(find_method(method).outputs, sets, extras)) == said


@given(st.sampled_from(METHODS), st.integers(1, 64), st.integers(0, 4))
def test_only_numbers_vary_between_jobs_of_a_method(method, sets, extras):
    words = outcome(method.outputs, sets, extras)
    fixed = {"set", "sets", "×", "layer", "layers", "=", "image", "images", "extra", "extras"}
    fixed |= {"+", ":", ",", "(RGBA)", "Foreground", "Background", "Blended"}
    assert all(word in fixed or word.isdecimal() for word in words)
    assert words[words.index("=") + 1] == str(sets * method.frames)

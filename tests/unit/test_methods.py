import re
from pathlib import Path

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import METHODS, Arch, Layer, PatchKind, find_method
from lib_layerdiffuse.released import WEIGHT_FILES, WeightFile

BY_ID = {m.id: m for m in METHODS}


def test_there_are_ten_methods_over_fourteen_files():
    assert len(BY_ID) == 10
    assert len(WEIGHT_FILES) == 14
    assert all(re.fullmatch(r"[0-9a-f]{64}", f.sha256) for f in WEIGHT_FILES.values())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_every_spelling_finds_its_method(method):
    for name in (method.id, *method.aliases, f"  {method.label} "):
        assert find_method(name) is method


def test_spellings_are_unambiguous():
    names = [name for m in METHODS for name in (m.id, *m.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("label", "id"),
    [
        ("Only Generate Transparent Image (Attention Injection)", "fg_attn_sdxl"),
        ("(SD1.5) Generate Everything Together", "joint_sd15"),
        ("(SD1.5) From Foreground to Background (need batch size 2)", "fg_to_bg_sd15"),
        ("From Foreground and Blending to Background", "fg_blended_to_bg_sdxl"),
        ("(SDXL) From Background to Blending", "bg_to_blended_sdxl"),
    ],
)
def test_labels_of_older_infotexts(label, id):
    assert find_method(label).id == id


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no method called ''. Choose one of: fg_attn_sd15, "),
        ("joint", "no method called joint. Did you mean joint_sd15?"),
        (None, "no method called None. Choose one of: "),
        (3, "no method called 3. Choose one of: "),
        ("joint_sd16", "no method called joint_sd16. Did you mean joint_sd15?"),
        ("(SD1.5) From Background to Blending", "Did you mean (SDXL) From Background to Blending?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_or_all(name, words):
    with pytest.raises(SettingsError) as caught:
        find_method(name)
    assert words in str(caught.value)
    assert caught.value.field == "method"


def test_derived_values():
    joint, fg_bg = BY_ID["joint_sd15"], BY_ID["fg_blended_to_bg_sdxl"]
    assert (joint.frames, joint.fg_frame, joint.decodes) == (3, 0, True)
    assert joint.layer_prompts == (Layer.FG, Layer.BG, Layer.BLENDED)
    assert (fg_bg.concat_channels, fg_bg.decodes, fg_bg.fg_frame) == (8, False, None)
    assert BY_ID["bg_to_fg_sd15"].uses_control
    assert not BY_ID["bg_to_fg_sd15"].concat_channels
    assert not BY_ID["bg_to_blended_sdxl"].uses_control
    assert BY_ID["fg_attn_sdxl"].layer_prompts == ()


def test_each_family_decodes_with_its_own_file():
    for method in METHODS:
        decoders = [f.stem for f in method.weight_files if "decoder" in f.stem]
        sd15 = method.arch is Arch.SD15
        want = ["layer_sd15_vae_transparent_decoder" if sd15 else "vae_transparent_decoder"]
        assert decoders == (want if method.decodes else [])
        assert method.patch is (PatchKind.ATTENTION_SHARING if sd15 else PatchKind.WEIGHTS)


def test_a_composite_needs_foreground_and_background_made_or_given():
    assert {id for id, method in BY_ID.items() if method.composes} == {
        "fg_to_bg_sd15",
        "bg_to_fg_sd15",
        "joint_sd15",
        "fg_blended_to_bg_sdxl",
        "bg_blended_to_fg_sdxl",
    }


def test_the_table_is_data_only():
    source = Path(__file__).parents[2] / "lib_layerdiffuse" / "methods.py"
    assert "import torch" not in source.read_text(encoding="utf8")
    assert WeightFile("a", "0" * 64).filename == "a.safetensors"

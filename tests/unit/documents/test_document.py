"""Documents, and those that a set's layers make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_documents import documents, over, pixels, sixteen
from hypothesis import example, given

from lib_layerdiffuse.documents.document import Document, DocumentLayer
from lib_layerdiffuse.documents.layer_set import document_of
from lib_layerdiffuse.errors import ImageSizeError, SettingsError
from lib_layerdiffuse.methods import Layer
from lib_layerdiffuse.outputs import with_given
from lib_layerdiffuse.settings.layer_settings import LayerSettings


@given(documents())
@example(sixteen())
def test_the_merged_picture_is_what_the_book_says(document):
    merged = document.merged()
    wanted = over(list(document.layers), document.width, document.height)
    assert merged.shape == (document.height, document.width, 4)
    alpha = merged[..., 3:] / 255
    np.testing.assert_allclose(alpha, wanted[..., 3:], atol=0.5001 / 255)
    straight = np.divide(
        wanted[..., :3], wanted[..., 3:], out=np.zeros_like(wanted[..., :3]), where=alpha > 0
    )
    seen = np.where(alpha > 0, merged[..., :3], 0)
    np.testing.assert_allclose(seen / 255, straight, atol=0.51 / 255)


@given(documents())
def test_trimming_changes_nothing_that_is_seen(document):
    trimmed = document.trimmed()
    np.testing.assert_array_equal(trimmed.merged(), document.merged())
    for cut, whole in zip(trimmed.layers, document.layers, strict=True):
        if whole.has_alpha and whole.image[..., 3].any():
            alpha = cut.image[..., 3]
            assert alpha[0].any()
            assert alpha[-1].any()
            assert alpha[:, 0].any()
            assert alpha[:, -1].any()
        else:
            np.testing.assert_array_equal(cut.image, whole.image)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": ""}, SettingsError),
        ({"name": "a\nb"}, SettingsError),
        ({"name": "a\ud800"}, SettingsError),
        ({"name": "a\uffff"}, SettingsError),
        ({"opacity": 1.1}, SettingsError),
        ({"opacity": float("nan")}, SettingsError),
        ({"image": np.zeros((4, 4, 4), np.float32)}, ImageSizeError),
        ({"image": np.zeros((4, 4), np.uint8)}, ImageSizeError),
        ({"image": np.zeros((4, 0, 3), np.uint8)}, ImageSizeError),
    ],
)
def test_what_is_no_layer(changes, error):
    with pytest.raises(error, match=r"^Expected .*, got ") as caught:
        replace(DocumentLayer("a", pixels(4, 4)), **changes)
    assert caught.value.hint


def test_what_is_no_document():
    with pytest.raises(SettingsError, match="at least one layer"):
        Document(4, 4, ())
    with pytest.raises(ImageSizeError, match="0 x 4"):
        Document(0, 4, (DocumentLayer("a", pixels(4, 4)),))


def made_set(*layers: Layer) -> dict[Layer, np.ndarray]:
    return {layer: pixels(8, 6, 4 if layer is Layer.FG else 3, i) for i, layer in enumerate(layers)}


def test_a_set_lies_as_it_is_seen():
    document = document_of(made_set(Layer.FG, Layer.BLENDED, Layer.BG), infotexts={Layer.FG: "f"})
    assert (document.width, document.height) == (6, 8)
    assert [(layer.name, layer.visible, layer.infotext) for layer in document.layers] == [
        ("Background", True, ""),
        ("Foreground", True, "f"),
        ("Blended", False, ""),
    ]
    numbered = document_of(made_set(Layer.FG), number=3)
    assert [layer.name for layer in numbered.layers] == ["Foreground 3"]


@pytest.mark.parametrize("others", [(), (Layer.FG,), (Layer.BG,)])
def test_the_blended_picture_is_hidden_only_where_the_others_make_it(others):
    document = document_of(made_set(Layer.BLENDED, *others))
    assert document.layers[-1].name == "Blended"
    assert document.layers[-1].visible


def test_what_is_no_set():
    with pytest.raises(SettingsError, match="at least one layer"):
        document_of({})
    with pytest.raises(ImageSizeError, match="fg 6 x 8, bg 5 x 8"):
        document_of({Layer.FG: pixels(8, 6), Layer.BG: pixels(8, 5)})


def test_given_pictures_join_the_set():
    blue = np.full((16, 12, 4), (0, 0, 255, 255), np.uint8)
    given = {"bg_image": blue, "fg_image": blue, "blend_image": blue}
    chosen = LayerSettings.from_args([{"method": "bg_blended_to_fg_sdxl"} | given])
    made = made_set(Layer.FG, Layer.BLENDED)
    whole = with_given(made, chosen)
    assert set(whole) == set(Layer)
    assert all(whole[layer] is made[layer] for layer in made)
    np.testing.assert_array_equal(whole[Layer.BG], blue[:8, :6, :3])
    glass = blue.copy()
    glass[..., 3] = 128
    chosen = LayerSettings.from_args([{"method": "fg_to_bg_sd15", "fg_image": glass}])
    whole = with_given(made_set(Layer.BG), chosen)
    np.testing.assert_array_equal(whole[Layer.FG], glass[:8, :6])
    alone = LayerSettings.from_args([{"method": "joint_sd15"} | given])
    assert set(with_given(made_set(Layer.BG), alone)) == {Layer.BG}

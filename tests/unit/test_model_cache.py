"""The families whose random weights the end-to-end tests write."""

from __future__ import annotations

import pytest
from model_cache import families, of_families, skip_without
from random_weights import CHECKPOINTS, LAYER_WEIGHTS, SD15, SDXL

from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch

NAMES = "LAYERDIFFUSE_E2E_FAMILIES"


def test_all_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAMES, raising=False)
    assert families() == list(Arch)
    assert of_families(LAYER_WEIGHTS) == list(LAYER_WEIGHTS)
    skip_without(SD15, SDXL, None)


@pytest.mark.parametrize("arch", Arch)
def test_a_family_has_the_files_of_its_methods(monkeypatch: pytest.MonkeyPatch, arch: Arch) -> None:
    monkeypatch.setenv(NAMES, arch.value)
    own = {method.weights.filename for method in METHODS if method.arch is arch}
    own |= {DECODERS[arch].filename, ENCODERS[arch].filename}
    assert set(of_families(LAYER_WEIGHTS)) == own
    assert of_families(CHECKPOINTS) == [{Arch.SD15: SD15, Arch.SDXL: SDXL}[arch]]


def test_a_test_of_another_family_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMES, "SD1.5")
    skip_without(SD15, "another.safetensors", None)
    with pytest.raises(pytest.skip.Exception, match=SDXL):
        skip_without(SD15, SDXL)

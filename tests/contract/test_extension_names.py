"""How the user is told whose a file of code is."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

ROOT = "/webui/extensions-builtin/tiles"


def panel(title, file):
    return SimpleNamespace(title=lambda: title, filename=file)


PANELS = [
    panel("Seed", "/webui/modules/processing_scripts/seed.py"),
    panel("Tiles", f"{ROOT}/scripts/tiles.py"),
    panel("More tiles", f"{ROOT}/scripts/more.py"),
]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (f"{ROOT}/scripts/more.py", "More tiles"),
        (f"{ROOT}/lib_tiles/run.py", "Tiles"),
        ("/data/extensions/preprocessor/lib.py", "the extension preprocessor"),
        ("/webui/modules/processing_scripts/seed.py", "Seed"),
        ("/webui/modules/other.py", "another extension"),
        ("", "another extension"),
    ],
)
def test_it_is_the_panels_title_or_the_folders_name(webui, file, name):
    title_of = import_module("lib_layerdiffuse.webui.job.extension_names").title_of
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=PANELS))
    assert title_of(p, file) == name


def test_a_job_without_scripts(webui):
    title_of = import_module("lib_layerdiffuse.webui.job.extension_names").title_of
    p = SimpleNamespace(scripts=None)
    assert title_of(p, f"{ROOT}/scripts/tiles.py") == "the extension tiles"

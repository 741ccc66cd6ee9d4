"""The page and the API made of the gradio and fastapi that a WebUI installs, not of stand-ins."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

import pytest
from command_runs import ROOT, python

from lib_layerdiffuse.methods import METHODS
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.settings.schema import settings_schema

try:
    GRADIO = version("gradio")
except PackageNotFoundError:
    GRADIO = "none"

pytestmark = pytest.mark.skipif(
    GRADIO.split(".")[0] not in ("3", "4"), reason=f"no WebUI has this gradio: {GRADIO}"
)


@pytest.fixture(scope="module")
def made():
    ran = python(str(ROOT / "tests" / "fakes" / "real_page.py"), GRADIO_ANALYTICS_ENABLED="False")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_the_page_is_of_the_installed_gradio(made):
    assert made["gradio"] == GRADIO


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_each_setting_has_its_component(made, tab):
    assert {f"{tab}_{name}" for name in LayerSettings.__dataclass_fields__} <= set(made["ids"])


def test_settings_page_extras_and_differential_are_there(made):
    wanted = {"layerdiffuse_models_folders", "layerdiffuse_layer_files"}
    assert wanted | {"script_enabled", "extras_layerdiffuse_keep_transparency"} <= set(made["ids"])


def test_the_panels_follow_the_page(made):
    assert made["events"] > 2 * len(METHODS)


def test_the_server_answers(made):
    assert [row["id"] for row in made["methods"]] == [method.id for method in METHODS]
    assert made["schema"] == json.loads(json.dumps(settings_schema()))

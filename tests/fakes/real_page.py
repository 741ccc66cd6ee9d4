"""A WebUI's page and server, made of the gradio and the fastapi that are installed.

Run it by itself: everywhere else the stand-ins of these names are lent. Prints the ids of the
page's components, and the answers of the server by their addresses.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastapi
import gradio as gr
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[2]))
from lent_webui import WEBUIS

sys.path[:0] = map(str, WEBUIS["forge"])


@contextmanager
def accordion(value: bool, label: str, elem_id: str) -> Iterator[gr.Checkbox]:
    """An accordion and its tick box, which the WebUIs make one."""
    with gr.Accordion(label):
        yield gr.Checkbox(value, label=label, elem_id=elem_id)


sys.modules["modules.ui_components"] = SimpleNamespace(InputAccordion=accordion)


def page() -> gr.Blocks:
    from modules import shared

    from lib_layerdiffuse.webui.flows.differential_script import DifferentialScript
    from lib_layerdiffuse.webui.flows.extras import KeepTransparency
    from lib_layerdiffuse.webui.page import options, webui_panel

    wiring = webui_panel.Wiring()
    options.add_page()
    with gr.Blocks() as made:
        for tab in ("txt2img", "img2img"):
            size = gr.Slider(1, 8, value=1, elem_id=f"{tab}_batch_size")
            wiring.after_component(size, elem_id=size.elem_id)
            panel = webui_panel.build(
                "LayerDiffuse", f"{tab}_{{}}".format, is_img2img=tab == "img2img"
            )
            wiring.add(tab, panel)
        DifferentialScript().ui(True)
        KeepTransparency().ui()
        for key, info in shared.opts.data_labels.items():
            if info.component is not None:
                args = dict(info.component_args or {})
                info.component(label=info.label, value=info.default, elem_id=key, **args)
        checkpoint = gr.Dropdown([], elem_id="setting_sd_model_checkpoint")
        wiring.after_component(checkpoint, elem_id=checkpoint.elem_id)
        wiring.after_component(gr.HTML(""))
    return made


def answers() -> dict[str, Any]:
    from lib_layerdiffuse.webui.page.api import add_routes

    app = fastapi.FastAPI()
    add_routes(None, app)
    client = TestClient(app)
    found = {}
    for name in ("methods", "schema"):
        answer = client.get(f"/layerdiffuse/{name}")
        assert answer.status_code == 200, answer.text
        found[name] = answer.json()
    return found


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)  # By which gradio 3 tells of unknown options.
    config = page().get_config_file()
    ids = [one["props"].get("elem_id") for one in config["components"]]
    events = len(config["dependencies"])
    print(json.dumps({"gradio": gr.__version__, "ids": ids, "events": events, **answers()}))

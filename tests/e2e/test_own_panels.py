"""Panels that Forge lacks, which another WebUI brings of its own, beside methods of SD1.5.

Those that Forge has are rows of ``docs/flows.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import ApiError, Client, Result
from flow_bench import SMALL, Bench
from flow_jobs import CHECKPOINTS
from forge_server import ForgeServer
from webuis import Webui

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod

OWN: dict[str, dict[str, dict[str, Any]]] = {
    "reforge": {
        "mahiro cfg for reforge": {"enable_mahiro_cfg": True},
        "rescalecfg for reforge": {"enable_rescalecfg": True},
        '"apg\'s now your cfg"': {"enable_apg": True, "enable_guidance_limiter": True},
        "advanced model sampling for reforge": {
            "enable_advanced_model_sampling": True,
            "discrete_sampling_type": "v_prediction",
        },
        "hypertile integrated": {"enabled": True, "tile_size": 32, "scale_depth": True},
        "random resolution": {
            "enable_random_resolution": True,
            "current_resolutions_(width,height_format)": "256,320",
            "minimum_dimension": 256,
        },
    },
}
"""What turns each panel on, by the start of its title, for each WebUI that has some."""
REGROUPS = "hypertile integrated"
"""Puts tokens into other groups, so that a set's layers would not meet."""
RESIZES = "random resolution"
JOB = {"steps": 2, "width": 128, "height": 128}


@pytest.mark.usefixtures("one_view")
@pytest.mark.parametrize("method", [m for m in METHODS if m.arch is Arch.SD15], ids=lambda m: m.id)
@pytest.mark.parametrize("title", sorted({title for panels in OWN.values() for title in panels}))
def test_beside_a_method(
    forge: ForgeServer,
    webui: Webui,
    plain: Callable[..., Result],
    tmp_path: Path,
    title: str,
    method: LayerMethod,
) -> None:
    if title not in OWN.get(webui.id, {}):
        pytest.skip(f"{webui.name} does not have it")
    client = Client(forge.url)
    without = plain(CHECKPOINTS[method.arch], **SMALL)
    client.use_checkpoint(CHECKPOINTS[method.arch])
    bench = Bench(client, method, tmp_path, without.run["passes"][0]["weights"], webui)
    panel = client.panel_args(title, **OWN[webui.id][title])
    if title == REGROUPS and (method.frames > 1 or method.uses_control):
        with pytest.raises(ApiError) as caught:
            bench.txt2img(scripts=panel, **JOB)
        assert caught.value.status == 422, caught.value
        return
    made = bench.txt2img(scripts=panel, **JOB)
    bench.check_acted(made)
    bench.check_decoded(made)
    if title == RESIZES:
        assert {image.shape[:2] for image in made.images} == {(320, 256)}
    else:
        assert {image.shape[:2] for image in made.images} == {(128, 128)}
        bench.check_differs(made, "the panel did nothing", bench.txt2img(**JOB))

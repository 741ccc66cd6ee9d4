"""Other extensions beside this one: each works, or is refused by its name.

Environment:
    LAYERDIFFUSE_EXTENSIONS_DIR: A folder of their checkouts, each named as its repository; those
        that are missing are skipped. What they import must be there for the WebUI's interpreter,
        `PYTHONPATH` counts too. They run from copies, since some write into their own folders.

The table in docs/extensions.md says the same.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, Result
from flow_jobs import HIRES
from forge_server import ForgeServer
from layers import difference, generate, notes, request
from random_weights import SD15
from real_forge import EXTENSION, ROOT

from lib_layerdiffuse.methods import find_method

SMALL = {"width": 64, "height": 64, "steps": 1, "checkpoint": SD15}
FG, JOINT, TO_FG = "fg_attn_sd15", "joint_sd15", "bg_to_fg_sd15"
KINDS = [FG, JOINT, TO_FG]
STAND_INS = Path(__file__).parent / "stand_ins"
NOT_NEEDED = shutil.ignore_patterns(".git", "*.png", "*.jpg", "*.gif", "*.mp4", "*.webp")
ROUTES = {
    "sd-webui-infinite-image-browsing": "/infinite_image_browsing/hello",
    "a1111-sd-webui-tagcomplete": "/tacapi/v1/refresh-styles-if-changed",
    "sd-webui-agent-scheduler": "/agent-scheduler/v1/queue",
    "sd-webui-prompt-all-in-one": "/physton_prompt/get_histories?type=txt2img",
}
"""What an extension answers that adds to the page, and nothing to a job."""

TEMPLATE = "a {red|blue|green} apple"
APPLES = {"a red apple", "a blue apple", "a green apple"}
LATE = {
    "dp_ignore_whitespace": False,  # Else all regions of a prompt become one line.
    "dp_write_raw_template": False,
    "dp_write_prompts_to_file": False,
    "dp_limit_jinja_prompts": False,
    "dp_auto_purge_cache": True,
    "dp_wildcard_manager_no_dedupe": False,
    "dp_wildcard_manager_no_sort": False,
    "dp_wildcard_manager_shuffle": False,
    "dp_magicprompt_default_model": "",
    "dp_magicprompt_batch_size": 1,
    "dp_parser_variant_start": "{",
    "dp_parser_variant_end": "}",
    "dp_parser_wildcard_wrap": "__",
}
"""Settings that sd-dynamic-prompts reads, and makes when the page is loaded a second time."""
LEFT_OUT = ("multidiffusion-upscaler-for-automatic1111", "sd-webui-controlnet")
WILDCARDS = {"fruit": ("apple", "plum", "quince"), "fog": ("fog", "haze"), "glass": ("glass",)}
"""What stable-diffusion-webui-wildcards may draw, by the names of its files."""


def checkouts() -> dict[str, Path]:
    """Returns the folders of other extensions by name."""
    named = os.environ.get("LAYERDIFFUSE_EXTENSIONS_DIR")
    folders = Path(named).expanduser().iterdir() if named else ()
    return {folder.name: folder for folder in folders if folder.is_dir()}


def needs(name: str) -> pytest.MarkDecorator:
    """Returns a mark that skips a test without an extension's checkout."""
    reason = f"LAYERDIFFUSE_EXTENSIONS_DIR names no folder with {name}"
    return pytest.mark.skipif(name not in checkouts(), reason=reason)


@pytest.fixture(scope="module")
def extended(
    make_forge: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForgeServer]:
    """A running server with all of them."""
    folders = checkouts()
    if not folders:
        pytest.skip("beside other extensions: LAYERDIFFUSE_EXTENSIONS_DIR is not set")
    data = tmp_path_factory.mktemp("extended")
    copies = {
        name: shutil.copytree(folder, data / "copies" / name, ignore=NOT_NEEDED)
        for name, folder in folders.items()
    }
    for name, words in WILDCARDS.items():
        file = data / "copies" / "stable-diffusion-webui-wildcards" / "wildcards" / f"{name}.txt"
        if file.parent.is_dir():
            file.write_text("\n".join(words))
    detectors = data / "models" / "adetailer"
    detectors.mkdir(parents=True)
    (detectors / "middle.pt").touch()
    paths = [str(STAND_INS), os.environ.get("PYTHONPATH", "")]
    server = make_forge(
        data,
        extensions={EXTENSION: ROOT, **copies},
        environment={"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        options={"layerdiffuse_decoder_views": 1, **LATE},
        web_page=True,  # Some have options on the settings page alone.
    )
    with server:
        print(f"log of the server: {server.log_path}")
        yield server


@pytest.fixture
def client(extended: ForgeServer) -> Client:
    """A client of that server."""
    return Client(extended.url)


def skip_unless_it_loads(server: ForgeServer, name: str) -> None:
    """Skips a test of an extension that this WebUI cannot load."""
    for file in re.findall(r"Error loading script: (\S+)", server.log):
        if (checkouts()[name] / "scripts" / file).exists():
            pytest.skip(f"this WebUI cannot load {name}: {file}")


def script(client: Client, title: str, **values: Any) -> dict[str, list[Any]]:
    """Returns the arguments of an always-on script.

    Args:
        client: The server's.
        title: How the script's title begins, in lower case.
        **values: Its arguments by their labels, in lower case with _ for what is no letter; the
            rest are the script's defaults.
    """
    infos = [one for one in client.script_info() if not one["is_img2img"] and one["is_alwayson"]]
    (info,) = (one for one in infos if one["name"].startswith(title))
    names = [re.sub(r"\W+", "_", (arg["label"] or "").lower()).strip("_") for arg in info["args"]]
    assert values.keys() <= {*names}, f"{title} has {names}"
    defaults = [arg["value"] for arg in info["args"]]
    pairs = zip(names, defaults, strict=True)
    return {info["name"]: [values.get(name, default) for name, default in pairs]}


def sets(result: Result) -> list[str]:
    """Returns each set's prompt, which all three layers must have."""
    prompts = result.info["all_prompts"]
    rows = [prompts[i : i + 3] for i in range(0, len(prompts), 3)]
    assert all(len(set(row)) == 1 for row in rows), rows
    assert [image.shape[2] for image in result.images] == [4, 3, 3] * len(rows)
    return [row[0] for row in rows]


@needs("sd-dynamic-prompts")
class TestDynamicPrompts:
    def run(self, client: Client, folder: Path, **options: Any) -> Result:
        options = {"n_iter": 2, "prompt": TEMPLATE} | options
        values = options.pop("values", {})
        scripts = script(client, "dynamic prompts", dynamic_prompts_enabled=True, **values)
        return generate(client, JOINT, folder, scripts=scripts, **SMALL | options)

    def test_a_wildcard_is_drawn_once_a_set(self, client: Client, tmp_path: Path) -> None:
        result = self.run(client, tmp_path / "run")
        assert len(sets(result)) == 2
        assert {*sets(result)} <= APPLES
        assert [text.split("\n")[0] for text in result.infotexts] == result.info["all_prompts"]

    def test_combinations_are_one_set_each(self, client: Client, tmp_path: Path) -> None:
        result = self.run(client, tmp_path / "run", values={"combinatorial_generation": True})
        assert sorted(sets(result)) == sorted(APPLES)

    def test_negative_prompts_and_both_passes_of_hires_fix(
        self, client: Client, tmp_path: Path
    ) -> None:
        options = {"n_iter": 1, "negative_prompt": "{dark|bright} fog", **HIRES}
        result = self.run(client, tmp_path / "run", **options)
        (prompt,) = sets(result)
        assert prompt in APPLES
        assert {*result.info["all_negative_prompts"]} < {"dark fog", "bright fog"}

    def test_a_drawn_set_comes_again_from_its_infotext(
        self, client: Client, tmp_path: Path
    ) -> None:
        first = self.run(client, tmp_path / "first")
        (_, prompt), seed = sets(first), first.info["all_seeds"][3]
        assert prompt in APPLES
        again = self.run(client, tmp_path / "again", n_iter=1, prompt=prompt, seed=seed)
        np.testing.assert_allclose(again.latents, first.latents[3:], atol=1e-4)


@needs("stable-diffusion-webui-wildcards")
class TestWildcards:
    def test_prompts_are_drawn_once_a_set(self, client: Client, tmp_path: Path) -> None:
        options = {"n_iter": 2, "prompt": "a __fruit__", "negative_prompt": "__fog__", **HIRES}
        result = generate(client, JOINT, tmp_path / "run", **SMALL | options)
        assert {*sets(result)} <= {f"a {fruit}" for fruit in WILDCARDS["fruit"]}
        negatives = result.info["all_negative_prompts"]
        assert {*negatives} <= {*WILDCARDS["fog"]}
        assert all(len({*negatives[i : i + 3]}) == 1 for i in (0, 3))
        assert [text.split("\n")[0] for text in result.infotexts] == result.info["all_prompts"]

    def test_layer_prompts_are_drawn(self, client: Client, tmp_path: Path) -> None:
        drawn, typed, without = (
            generate(client, JOINT, tmp_path / name, settings=texts, **SMALL)
            for name, texts in (
                ("drawn", {"fg_additional_prompt": "made of __glass__"}),
                ("typed", {"fg_additional_prompt": "made of glass"}),
                ("without", {}),
            )
        )
        assert "made of __glass__" in drawn.infotexts[0]
        assert not notes(drawn)
        near = 1e-4 * np.abs(typed.latents).max()
        assert difference(drawn, typed) < near
        assert difference(drawn, without) > near


@needs("sd-forge-couple")
@pytest.mark.parametrize("method_id", KINDS)
def test_forge_couples_regions(client: Client, tmp_path: Path, method_id: str) -> None:
    """Regions of one prompt change nothing; three make the rows of one set odd."""

    def run(name: str, *lines: str) -> Result:
        scripts = script(client, "forge couple", enable=True) if len(lines) > 1 else {}
        options = {"scripts": scripts, "prompt": "\n".join(lines), **SMALL}
        return generate(client, method_id, tmp_path / name, **options)

    plain = run("plain", "a glass ball")
    near = 2e-3 * np.abs(plain.latents).max()
    for number in (2, 3):
        coupled = run(f"{number}", *["a glass ball"] * number)
        assert "forge_couple: True" in coupled.infotexts[0]
        assert difference(coupled, plain) < near, number
    other = run("other", "a glass ball", "a red cat in the snow")
    assert difference(other, plain) > near
    assert [image.shape[2] for image in other.images] == [image.shape[2] for image in plain.images]


@needs("adetailer")
def test_adetailer_changes_colours_where_it_found_something(client: Client, tmp_path: Path) -> None:
    asked = {"ad_model": "middle.pt", "ad_prompt": "a face", "ad_denoising_strength": 0.9}
    asked |= {"ad_use_inpaint_width_height": True}
    asked |= {"ad_inpaint_width": 64, "ad_inpaint_height": 64}
    scripts = {"adetailer": [True, False, asked]}
    plain = generate(client, FG, tmp_path / "plain", **SMALL)
    detailed = generate(client, FG, tmp_path / "detailed", scripts=scripts, **SMALL)
    (before,), (after,) = plain.images, detailed.images
    assert "ADetailer model: middle.pt" in detailed.infotexts[0]
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    # As far as it is seen: where little is, colours come back a little changed.
    apart = np.abs(after[..., :3].astype(float) - before[..., :3]).max(-1) * before[..., 3] / 255
    assert apart[24:40, 24:40].max() > 8
    assert apart[:4].max() <= 1  # What was found begins at 16, and the mask is grown and blurred.


@needs("sd-webui-regional-prompter")
@pytest.mark.parametrize("method_id", KINDS)
def test_regional_prompter_is_refused_by_name(
    client: Client, tmp_path: Path, method_id: str
) -> None:
    scripts = script(
        client, "regional prompter", regional_prompter=True, generation_mode="Attention"
    )
    with pytest.raises(ApiError) as caught:
        generate(
            client,
            method_id,
            tmp_path / "run",
            scripts=scripts,
            prompt="a cat BREAK a dog",
            **SMALL,
        )
    assert caught.value.status == 422
    assert "sd-webui-regional-prompter" in caught.value.body["detail"]["message"]
    if method_id == JOINT:
        generate(client, method_id, tmp_path / "after", **SMALL)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_the_host_leaves_out(client: Client, name: str) -> None:
    """Forge loads neither, since it has a script of its own for each."""
    if name not in checkouts():
        pytest.skip(f"LAYERDIFFUSE_EXTENSIONS_DIR names no folder with {name}")
    loaded = {one["name"]: one["enabled"] for one in client.call("GET", "/sdapi/v1/extensions")}
    assert not loaded.get(name, False)


@pytest.mark.parametrize("name", ROUTES)
def test_an_extension_of_the_page_answers_beside_us(
    extended: ForgeServer, client: Client, name: str
) -> None:
    if name not in checkouts():
        pytest.skip(f"LAYERDIFFUSE_EXTENSIONS_DIR names no folder with {name}")
    skip_unless_it_loads(extended, name)
    status, _ = client.request("GET", ROUTES[name])
    assert status in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)


@needs("sd-webui-agent-scheduler")
def test_agent_scheduler_runs_a_job_of_ours(extended: ForgeServer, client: Client) -> None:
    skip_unless_it_loads(extended, "sd-webui-agent-scheduler")
    method = find_method(JOINT)
    body = {k: v for k, v in SMALL.items() if k != "checkpoint"}
    body |= {"prompt": "a glass ball", "seed": 1, "sampler_name": "Euler", "checkpoint": SD15}
    titles = request(method.id)
    body["alwayson_scripts"] = {title: {"args": args} for title, args in titles.items()}
    task = client.call("POST", "/agent-scheduler/v1/queue/txt2img", body)["task_id"]
    for _ in range(300):
        found = client.call("GET", f"/agent-scheduler/v1/task/{task}")["data"]
        if found["status"] in ("done", "failed"):
            break
        time.sleep(1)
    assert found["status"] == "done", found
    images = client.call("GET", f"/agent-scheduler/v1/task/{task}/results")["data"]
    assert len(images) >= method.frames

"""What is typed and sent: prompts, settings, infotext and requests to the API."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

import tiny_diffusers
import webui_infotext
from command_areas import Files
from mutations import spoilt, text, value
from started_webui import WebUI

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.hosts.diffusers.conditioning import conditions
from lib_layerdiffuse.hosts.diffusers.prompt_changes import check_prompt
from lib_layerdiffuse.imaging.reading import read_image
from lib_layerdiffuse.methods import METHODS, Arch, Layer
from lib_layerdiffuse.settings.infotext import from_infotext, images_of, infotext_line, to_infotext
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.settings.schema import settings_schema

DONE, REFUSED = "done", "refused"
TXT2IMG = "/sdapi/v1/txt2img"
_NAMES = tuple(settings_schema()["properties"])
_IMAGES = ("fg_image", "bg_image", "blend_image")


def prompts(rng: Random) -> str:
    """Has the standalone host read prompts."""
    host = tiny_diffusers.host(Arch.SD15)
    positive, negative = text(rng), text(rng) if rng.random() < 0.3 else ""
    if rng.random() < 0.5:
        positive = "".join(text(rng)[:2000] for _ in range(rng.randint(2, 5)))
    try:
        check_prompt(positive)
        check_prompt(negative, composes=False)
    except SettingsError as error:
        check_line(str(error))
        return REFUSED
    try:  # What is let through there may be refused for a step's own text only.
        found = conditions(host.pipeline, Arch.SD15, [positive], [negative], rng.randint(1, 3))
    except SettingsError as error:
        check_line(str(error))
        return REFUSED
    assert all(one.isfinite().all() for step in found.steps for one in step.values())
    return DONE


def settings(rng: Random) -> str:
    """Reads settings by place, by name or both."""
    args: list[Any] = []
    if rng.random() < 0.5:
        args = [value(rng) for _ in range(rng.randint(0, 14))]
    if rng.random() < 0.8:
        args.insert(rng.randint(0, len(args)), _named(rng))
    try:
        read = LayerSettings.from_args(args, _read, strict=rng.random() < 0.7)
    except SettingsError as error:
        check_line(str(error))
        return REFUSED
    assert 0 <= read.strength <= 2
    assert 0 <= read.stop_at <= 1
    line = infotext_line({"Steps": 1, "Size": "64x64", "Seed": 1} | to_infotext(read))
    again = from_infotext(webui_infotext.split(line))
    assert again["method"] is read.method
    assert math.isclose(again["strength"], read.strength, abs_tol=1e-9)
    return DONE


def _read(given: Any) -> Any:
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise SettingsError("It is no image.", "Send one.")
    return read_image(given.encode("utf-8", "replace"))


def _named(rng: Random) -> dict[Any, Any]:
    names = [rng.choice(_NAMES) for _ in range(rng.randint(0, 4))]
    made = {name: value(rng) for name in names}
    if rng.random() < 0.1:
        made[text(rng)] = value(rng)
    if rng.random() < 0.5:
        made["method"] = rng.choice(METHODS).id
    return made


def infotext(rng: Random) -> str:
    """Pastes an infotext that has been spoilt."""
    whole = LayerSettings(enabled=True, method=rng.choice(METHODS), fg_prompt="a, b", strength=0.5)
    values = {"Steps": "20", "Size": "64x64"} | to_infotext(whole, {Layer.FG: "0" * 64})
    for _ in range(rng.randint(1, 4)):
        key = rng.choice(list(values))
        values[key] = text(rng) if rng.random() < 0.7 else rng.choice(("True", "nan", "1e999"))
    line = infotext_line(values)
    if rng.random() < 0.5:
        line = spoilt(rng, line.encode("utf-8", "replace")).decode("utf-8", "replace")
    params = webui_infotext.parse(f"a boat\n{line}") if rng.random() < 0.5 else values
    for found in (from_infotext(params), from_infotext(webui_infotext.split(line[:5000]))):
        assert isinstance(found["enabled"], bool)
        LayerSettings(**found)
    for layer, name in images_of(params).items():
        assert layer in Layer
        assert name is None or isinstance(name, str)
    return DONE if from_infotext(params)["enabled"] else REFUSED


def api(rng: Random, ui: WebUI, files: Files) -> str:
    """Sends a request to the API of a WebUI's stand-in."""
    method = rng.choice(METHODS)
    named: dict[str, Any] = {"method": method.id}
    for layer in method.inputs if rng.random() < 0.8 else ():
        named[_IMAGES[list(Layer).index(layer)]] = _image(rng, files)
    if rng.random() < 0.8:
        named |= _named(rng)
    args: list[Any] = (
        [named] if rng.random() < 0.8 else [value(rng) for _ in range(rng.randint(0, 25))]
    )
    body = {"prompt": "a boat", "width": 64, "height": 64, "override_settings": {}}
    if rng.random() < 0.15:
        options = ("decoder_views", "decoder_precision", "decoder_compiled", "layer_files")
        option = rng.choice((*options, "offline"))
        body["override_settings"] = {f"layerdiffuse_{option}": value(rng, 1)}
    body["alwayson_scripts"] = {"LayerDiffuse": {"args": _through_json(args)}}
    status, answer = ui.serve(method).request("POST", TXT2IMG, body)
    if status == 200:
        return DONE
    assert status == 422, (status, answer)
    assert answer["detail"].keys() == {"error", "message", "hint", "field"}, answer
    check_line(answer["detail"]["message"])
    return REFUSED


def _image(rng: Random, files: Files) -> Any:
    if rng.random() < 0.2:
        return value(rng)
    data = files.data[rng.choice(list(files.data))]
    sent = base64.b64encode(data if rng.random() < 0.4 else spoilt(rng, data)).decode()
    return sent if rng.random() < 0.7 else f"data:image/png;base64,{sent}"


def _through_json(values: Any) -> Any:
    """Returns values as a server gets them; what no JSON can hold is left out."""
    try:
        return json.loads(json.dumps(values))
    except (RecursionError, ValueError):
        return []


def check_line(line: str) -> None:
    """Checks that an error is told in one line that a person can read."""
    assert line.strip(), "nothing is said"
    assert "\n" not in line, f"more than a line: {line!r}"
    assert len(line) <= 1000, f"{len(line)} letters: {line[:200]!r}"
    assert "Traceback" not in line, line


AREAS: dict[str, Callable[[Random], str]] = {
    "prompts": prompts,
    "settings": settings,
    "infotext": infotext,
}
"""By name: what reads one malformed text, and whether it was done or refused."""

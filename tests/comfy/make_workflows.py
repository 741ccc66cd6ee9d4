"""Writes the example workflows, for which it asks a ComfyUI that runs with the pack.

    python tests/comfy/make_workflows.py http://127.0.0.1:8188 example_workflows

Args:
    The server's address, of which the order of inputs and the defaults of widgets are, and the
    folder to write to.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from widgets import extras, inputs, is_widget

_WIDTH, _HEIGHT, _LINE, _GAP = 330, 60, 26, 60
_NEGATIVE = "text, watermark, low quality"
_SDXL, _SD15 = "sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly.safetensors"


class Workflow:
    """A graph, as the page saves it.

    Args:
        known: What the server says of each kind of node.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self._nodes: list[dict[str, Any]] = []
        self._links: list[list[Any]] = []
        self._columns: list[int] = []

    def add(self, kind: str, title: str = "", /, **given: Any) -> dict[str, Any]:
        """Returns a new node.

        Args:
            kind: Its id.
            title: What stands on it, empty for its name.
            given: Values of widgets, and `(node, output)` for what is connected.
        """
        about = self._known[kind]
        made: dict[str, Any] = {"id": len(self._nodes) + 1, "type": kind, "flags": {}, "mode": 0}
        self._nodes.append(made)
        sockets: list[Any] = []
        values: list[Any] = []
        for name, spec in inputs(about["input"]):
            type_, more = spec[0], spec[1] if len(spec) > 1 else {}
            if is_widget(spec):
                values.append(given.pop(name, _default(type_, more)))
                values += extras(spec)
                continue
            sockets.append({"name": name, "type": type_, "link": None})
            if name in given:
                sockets[-1]["link"] = self._link(*given.pop(name), made, len(sockets) - 1)
        assert not given, f"{kind} has no {', '.join(given)}"
        outputs = zip(about["output"], about["output_name"], strict=True)
        made["inputs"], made["widgets_values"] = sockets, values
        made["outputs"] = [
            {"name": name, "type": type_, "links": [], "slot_index": slot}
            for slot, (type_, name) in enumerate(outputs)
        ]
        made["properties"] = {"Node name for S&R": kind}
        made["order"] = len(self._nodes) - 1
        if title:
            made["title"] = title
        self._place(made)
        return made

    def _link(self, source: dict[str, Any], output: int, target: dict[str, Any], slot: int) -> int:
        number = len(self._links) + 1
        out = source["outputs"][output]
        out["links"].append(number)
        self._links.append([number, source["id"], output, target["id"], slot, out["type"]])
        return number

    def _place(self, made: dict[str, Any]) -> None:
        """Puts a node right of all that it is connected to, below what stands there."""
        sources = {link[1] for link in self._links if link[3] == made["id"]}
        column = 1 + max((self._nodes[one - 1]["column"] for one in sources), default=-1)
        lines = max(len(made["inputs"]), len(made["outputs"])) + len(made["widgets_values"])
        tall = sum(80 for value in made["widgets_values"] if _is_text(made["type"], value))
        height = _HEIGHT + _LINE * lines + tall
        height = max(height, 320) if made["type"] in ("SaveImage", "LoadImage") else height
        while len(self._columns) <= column:
            self._columns.append(0)
        made["column"] = column
        made["pos"] = [column * (_WIDTH + _GAP), self._columns[column]]
        made["size"] = [_WIDTH, height]
        self._columns[column] += height + _GAP

    def saved(self) -> dict[str, Any]:
        """Returns the workflow for a file."""
        nodes = [{k: v for k, v in node.items() if k != "column"} for node in self._nodes]
        return {
            "last_node_id": len(nodes),
            "last_link_id": len(self._links),
            "nodes": nodes,
            "links": self._links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def _default(type_: Any, more: Mapping[str, Any]) -> Any:
    options = type_ if isinstance(type_, list) else more.get("options")
    if options is not None:
        return more.get("default", options[0] if options else "")
    return more.get("default", {"STRING": "", "BOOLEAN": False}.get(type_, 0))


def _is_text(kind: str, value: Any) -> bool:
    return kind == "CLIPTextEncode" and isinstance(value, str)


class Graph(Workflow):
    """What all examples begin and end with."""

    def begin(self, checkpoint: str, prompt: str) -> None:
        """Adds the checkpoint and both prompts."""
        self.checkpoint = self.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
        self.positive, self.negative = (self.prompt(text) for text in (prompt, _NEGATIVE))

    def prompt(self, text: str) -> dict[str, Any]:
        """Returns a prompt of the checkpoint."""
        return self.add("CLIPTextEncode", text=text, clip=(self.checkpoint, 1))

    def image(self, name: str, title: str) -> dict[str, Any]:
        """Returns an image to choose."""
        return self.add("LoadImage", title, image=name)

    def layers(self, method: str, side: int, **more: Any) -> dict[str, Any]:
        """Returns a decoder's layers of a run with a method.

        Args:
            method: Its label.
            side: Of each layer, in pixels.
            more: What the method's node is given, and `latent` and `denoise` of the sampler.
        """
        latent, denoise = more.pop("latent", None), more.pop("denoise", 1.0)
        if latent is None:
            empty = {"width": side, "height": side, "sets": 1}
            latent = self.add("LayerDiffuseEmptyLatent", method=method, **empty)
        made = self.add(
            "LayerDiffuseMethod",
            method=method,
            model=(self.checkpoint, 0),
            vae=(self.checkpoint, 2),
            latent=(latent, 0),
            **more,
        )
        self.method = made
        return self._drawn(made, (latent, 0), denoise)

    def second_step(self, blended: dict[str, Any]) -> dict[str, Any]:
        """Returns a decoder's layers of the second step of a chain."""
        layers = {"layers": (self.method, 1), "blended": (blended, 2)}
        of = {"model": (self.checkpoint, 0), "vae": (self.checkpoint, 2)}
        made = self.add("LayerDiffuseChain", **layers, **of)
        return self._drawn(made, (made, 2), 1.0)

    def _drawn(
        self, made: dict[str, Any], latent: tuple[dict[str, Any], int], denoise: float
    ) -> dict[str, Any]:
        """Returns a decoder's layers of what a method's node makes a sampler draw."""
        sampler = {"seed": 1, "steps": 25, "cfg": 7.0, "denoise": denoise}
        sampler |= {"sampler_name": "dpmpp_2m", "scheduler": "karras"}
        prompts = {"positive": (self.positive, 0), "negative": (self.negative, 0)}
        sampled = self.add("KSampler", **sampler, **prompts, model=(made, 0), latent_image=latent)
        of = {"samples": (sampled, 0), "layers": (made, 1), "vae": (self.checkpoint, 2)}
        return self.add("LayerDiffuseDecode", **of)

    def save(self, source: dict[str, Any], output: int, name: str) -> None:
        """Saves an image of a node."""
        self.add("SaveImage", filename_prefix=f"LayerDiffuse/{name}", images=(source, output))

    def save_sets(self, **layers: Any) -> None:
        """Saves layers as a PSD file."""
        self.add("LayerDiffuseSave", kind="PSD", filename_prefix="LayerDiffuse/layers", **layers)


def _alone(graph: Graph, method: str, family: str) -> None:
    graph.begin(*family)
    made = graph.layers(method, 1024 if family[0] == _SDXL else 512)
    graph.save(made, 0, "foreground")


def _given(graph: Graph, method: str, checkpoint: str, given: Mapping[str, str]) -> None:
    """Adds a method that starts from images: all layers are saved."""
    graph.begin(checkpoint, "a glass bottle on a table, high quality")
    images: dict[str, Any] = {}
    for layer, name in given.items():
        loaded = graph.image(name, f"The {name.partition('.')[0]}")
        images[layer] = (loaded, 0)
        if layer == "fg":
            images["fg_mask"] = (loaded, 1)
    made = graph.layers(method, 1024 if checkpoint == _SDXL else 512, **images)
    for output, name in enumerate(("foreground", "background", "blended")):
        graph.save(made, output, name)


def _joint(graph: Graph, method: str) -> None:
    graph.begin(_SD15, "a man sitting in a garden, high quality")
    texts = {
        "fg_cond": "a man, sitting",
        "bg_cond": "a garden",
        "blended_cond": "a man in a garden",
    }
    own = {name: (graph.prompt(text), 0) for name, text in texts.items()}
    made = graph.layers(method, 512, **own)
    for output, name in enumerate(("foreground", "background", "blended")):
        graph.save(made, output, name)
    graph.save_sets(fg=(made, 0), bg=(made, 1), blended=(made, 2))


def _from_alpha(graph: Graph, method: str) -> None:
    graph.begin(_SDXL, "a glass bottle, blue light, high quality")
    image = graph.image("foreground.png", "A transparent image of 1024 × 1024")
    latent = graph.add(
        "LayerDiffuseEncode", image=(image, 0), mask=(image, 1), vae=(graph.checkpoint, 2)
    )
    graph.save(graph.layers(method, 1024, latent=latent, denoise=0.6), 0, "foreground")


def _inpaint(graph: Graph, method: str) -> None:
    graph.begin(_SDXL, "a glass bottle with a red label, high quality")
    image = graph.image("foreground.png", "A transparent image of 1024 × 1024")
    latent = graph.add(
        "LayerDiffuseEncode", image=(image, 0), mask=(image, 1), vae=(graph.checkpoint, 2)
    )
    part = graph.add(
        "LayerDiffuseMask", image=(image, 0), mask=(image, 1), part="visible", feather=4.0
    )
    masked = graph.add("SetLatentNoiseMask", samples=(latent, 0), mask=(part, 0))
    graph.save(graph.layers(method, 1024, latent=masked, denoise=0.8), 0, "foreground")


def _chain(graph: Graph, first: str, layer: str) -> None:
    """Adds both steps from one given layer: what blends with it, then the layer that is missing."""
    graph.begin(_SDXL, "a glass bottle on a table, high quality")
    loaded = graph.image(f"{layer}.png", f"The {layer}")
    given = {"fg": (loaded, 0), "fg_mask": (loaded, 1)} if layer == "foreground" else {}
    given = given or {"bg": (loaded, 0)}
    blended = graph.layers(first, 1024, **given)
    graph.save(blended, 2, "blended")
    made = graph.second_step(blended)
    graph.save(made, 1 if layer == "foreground" else 0, "missing layer")
    graph.save_sets(fg=(made, 0), bg=(made, 1), blended=(made, 2))


def examples(known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the workflows by the names of their files."""
    labels = known["LayerDiffuseMethod"]["input"]["required"]["method"][1]["options"]
    sd_fg, sd_bg_of, sd_fg_of, joint, xl_fg, xl_conv, fg_blend, bg_left, bg_blend, fg_left = labels
    subject = "a glass bottle, high quality"
    fg, bg, both = {"fg": "foreground.png"}, {"bg": "background.png"}, {"blended": "blended.png"}
    plans = {
        "transparent_sdxl": lambda g: _alone(g, xl_fg, (_SDXL, subject)),
        "transparent_sdxl_conv": lambda g: _alone(g, xl_conv, (_SDXL, subject)),
        "transparent_sd15": lambda g: _alone(g, sd_fg, (_SD15, subject)),
        "all_layers_sd15": lambda g: _joint(g, joint),
        "background_for_foreground_sd15": lambda g: _given(g, sd_bg_of, _SD15, fg),
        "foreground_for_background_sd15": lambda g: _given(g, sd_fg_of, _SD15, bg),
        "foreground_to_blended_sdxl": lambda g: _given(g, fg_blend, _SDXL, fg),
        "background_to_blended_sdxl": lambda g: _given(g, bg_blend, _SDXL, bg),
        "chain_from_foreground_sdxl": lambda g: _chain(g, fg_blend, "foreground"),
        "chain_from_background_sdxl": lambda g: _chain(g, bg_blend, "background"),
        "background_from_blended_sdxl": lambda g: _given(g, bg_left, _SDXL, fg | both),
        "foreground_from_blended_sdxl": lambda g: _given(g, fg_left, _SDXL, bg | both),
        "img2img_transparent_sdxl": lambda g: _from_alpha(g, xl_fg),
        "inpaint_transparent_sdxl": lambda g: _inpaint(g, xl_fg),
    }
    made = {}
    for name, plan in plans.items():
        graph = Graph(known)
        plan(graph)
        made[name] = graph.saved()
    return made


def main(address: str, folder: str) -> None:
    """Writes them."""
    with urllib.request.urlopen(f"{address}/object_info") as answer:
        known = json.load(answer)
    for name, workflow in examples(known).items():
        text = json.dumps(workflow, indent=1, ensure_ascii=False)
        (Path(folder) / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

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

from workflow_file import Workflow

_NEGATIVE = "text, watermark, low quality"
_SDXL, _SD15 = "sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly.safetensors"


class Graph(Workflow):
    """What all examples begin and end with."""

    def begin(self, checkpoint: str, prompt: str) -> None:
        """Adds the checkpoint and both prompts."""
        family = "SDXL" if checkpoint == _SDXL else "SD1.5"
        title = f"Choose your {family} checkpoint"
        self.checkpoint = self.add("CheckpointLoaderSimple", title, ckpt_name=checkpoint)
        self.positive = self.prompt(prompt, "What to draw")
        self.negative = self.prompt(_NEGATIVE, "What to avoid")

    def prompt(self, text: str, title: str) -> dict[str, Any]:
        """Returns a prompt of the checkpoint."""
        return self.add("CLIPTextEncode", title, text=text, clip=(self.checkpoint, 1))

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
        prefix = f"LayerDiffuse/{name}"
        self.add("SaveImage", name.capitalize(), filename_prefix=prefix, images=(source, output))

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
        "fg_cond": ("a man, sitting", "Prompt of the foreground"),
        "bg_cond": ("a garden", "Prompt of the background"),
        "blended_cond": ("a man in a garden", "Prompt of the blended image"),
    }
    own = {name: (graph.prompt(*text), 0) for name, text in texts.items()}
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


def _chain(graph: Graph, method: str, layer: str) -> None:
    """Adds both steps from one given layer: what blends with it, then the layer that is missing."""
    graph.begin(_SDXL, "a glass bottle on a table, high quality")
    loaded = graph.image(f"{layer}.png", f"The {layer}")
    given = {"fg": (loaded, 0), "fg_mask": (loaded, 1)} if layer == "foreground" else {}
    blended = graph.layers(method, 1024, **given or {"bg": (loaded, 0)})
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

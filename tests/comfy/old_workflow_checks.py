"""Workflows made for `ComfyUI-layerdiffuse` run with the nodes here, by ComfyUI's own executor.

`old_workflows.json` has what such workflows hold: classes, values of widgets in their order, and
connections. They are those of its examples by name and kind: both ways of a transparent image, a
layer around or beside a given one, and sets. Where these used a pack of others to scale images,
core's node stands. Checkpoints are small ones, and sizes and steps are, too.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import execution
import folder_paths
import nodes
import numpy as np
from PIL import Image
from tiny_comfy import conditioning, tiny_model, tiny_vae
from widgets import inputs, is_widget, prompt_of

from lib_layerdiffuse.methods import Arch

HERE = Path(__file__).parent
CORE = ("compositing", "mask")
CHECKPOINTS = {
    "v1-5-pruned-emaonly.safetensors": Arch.SD15,
    "sd_xl_base_1.0.safetensors": Arch.SDXL,
}
SMALL = {"width": 64, "height": 64}
STEPS = {"steps": 4, "start_at_step": 2, "end_at_step": 2}
"""In place of 20, and of where two samplers share the schedule."""


class Clip:
    """A text encoder whose tokens are the text."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        return conditioning(self._arch, seed=zlib.crc32(tokens.encode()))


class Loader:
    """Small checkpoints by the names of real ones."""

    CATEGORY, FUNCTION, RETURN_TYPES = "loaders", "load", ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls) -> Any:
        return {"required": {"ckpt_name": (list(CHECKPOINTS),)}}

    def load(self, ckpt_name: str) -> tuple[Any, ...]:
        arch = CHECKPOINTS[ckpt_name]
        return tiny_model(arch), Clip(arch), tiny_vae()


def workflows() -> dict[str, Any]:
    """Returns what the workflows hold, by name."""
    return json.loads((HERE / "old_workflows.json").read_text())


def input_types() -> dict[str, Any]:
    """Returns what ComfyUI says of the inputs of classes."""
    kinds = {node[1] for held in workflows().values() for node in held}
    return {kind: nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES() for kind in kinds}


def core_nodes_are_there() -> None:
    extras = Path(nodes.__file__).parent / "comfy_extras"
    for name in CORE:
        path = str(extras / f"nodes_{name}.py")
        assert asyncio.run(nodes.load_custom_node(path, module_parent="comfy_extras"))
    nodes.NODE_CLASS_MAPPINGS["CheckpointLoaderSimple"] = Loader
    folder = Path(folder_paths.models_dir)
    for name in ("input", "output", "temp"):
        (folder / name).mkdir()
        getattr(folder_paths, f"set_{name}_directory")(str(folder / name))
    generator = np.random.default_rng(0)
    for name in ("foreground", "background", "blended"):
        pixels = generator.integers(0, 256, (64, 64, 4 if name == "foreground" else 3), np.uint8)
        Image.fromarray(pixels).save(folder / "input" / f"{name}.png")


def old_values_stand_at_their_widgets() -> None:
    """All of a node's widgets but those that are new, which are optional and the last."""
    known = input_types()
    for name, held in workflows().items():
        prompt = prompt_of(held, known)
        for node, kind, _, connected in held:
            given = prompt[str(node)]["inputs"]
            everything = dict(inputs(known[kind]))
            missing = [key for key in everything if key not in given]
            optional = known[kind].get("optional", {})
            assert set(missing) <= set(optional), (name, kind, missing)
            needed = {key for key, spec in everything.items() if not is_widget(spec)}
            assert set(connected) == needed - set(missing), (name, kind)


def old_workflows_run() -> None:
    held = workflows()
    assert len(held) == 10
    assert {node[1] for one in held.values() for node in one} >= {
        f"LayeredDiffusion{of}"
        for of in (
            "Apply",
            "JointApply",
            "CondApply",
            "CondJointApply",
            "DiffApply",
            "Decode",
            "DecodeRGBA",
            "DecodeSplit",
        )
    }
    for name, found in held.items():
        ran = _run(name, _small(prompt_of(found, input_types())))
        shown = [node[0] for node in found if node[1] == "PreviewImage"]
        assert sorted(ran) == sorted(map(str, shown)), (name, list(ran))
        assert all(_pictures(one) for one in ran.values()), name


def _small(prompt: dict[str, Any]) -> dict[str, Any]:
    """Returns a prompt with small sizes and few steps."""
    for node in prompt.values():
        given = node["inputs"]
        given |= {key: value for key, value in SMALL.items() if key in given}
        if "steps" in given:
            given["steps"] = STEPS["steps"]
        if given.get("start_at_step"):
            given["start_at_step"] = STEPS["start_at_step"]
        elif "start_at_step" in given:
            given["end_at_step"] = STEPS["end_at_step"]
    return prompt


def _run(name: str, prompt: dict[str, Any]) -> dict[str, Any]:
    """Returns what a prompt's output nodes tell the page, by their ids; it has to be valid."""
    valid, error, outputs, errors = asyncio.run(execution.validate_prompt(name, prompt, None))
    assert valid, (name, error, errors)
    server = SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_: None)
    executor = execution.PromptExecutor(server)
    executor.cache_args = {"ram": 0.0, "ram_inactive": 0.0, "lru": 0}  # As its command line does.
    executor.execute(prompt, name, {}, outputs)
    assert executor.success, (name, executor.status_messages[-1])
    return executor.history_result["outputs"]


def _pictures(shown: dict[str, Any]) -> bool:
    folder = Path(folder_paths.get_temp_directory())
    files = [folder / one["subfolder"] / one["filename"] for one in shown["images"]]
    return bool(files) and all(np.asarray(Image.open(one)).std() > 1 for one in files)

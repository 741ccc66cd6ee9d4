"""The WebUIs that the end-to-end tests can start, and what each of them needs.

Environment, for each of them; the tests run in every one whose folder is named:
    LAYERDIFFUSE_FORGE_DIR: Checkout of WebUI Forge; likewise LAYERDIFFUSE_NEO_DIR of Forge Neo,
        LAYERDIFFUSE_REFORGE_DIR of reForge, LAYERDIFFUSE_CLASSIC_DIR of Forge Classic and
        LAYERDIFFUSE_A1111_DIR of AUTOMATIC1111's WebUI.
    LAYERDIFFUSE_FORGE_PYTHON: Interpreter with its requirements, by default the checkout's
        ``venv/bin/python``; likewise for each of the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMMON = (
    "--skip-prepare-environment",
    "--skip-torch-cuda-test",
    "--skip-python-version-check",
    "--no-hashing",
    "--server-name=127.0.0.1",
    "--api",
)


@dataclass(frozen=True)
class Webui:
    """One WebUI.

    Attributes:
        id: As it is called in variables and in the tests' names.
        name: As people call it.
        arguments: Of its command line: on the CPU, the UNet stored in float16, all else in float32.
        settings: Settings that make it start and draw as the others do.
        has_patcher: Whether it puts LoRAs on its UNet by a patcher, which can be cloned.
        persistent_patches: What makes its patcher keep patches from job to job, if it can.
        loads_at_once: Whether its page loads a checkpoint as soon as that is chosen.
        shown_checkpoint: Setting with the checkpoint that its page shows, if that is not the one
            with what it draws with: programs set the latter alone.
        noises_the_original: Whether the UNet sees the original with each step's noise around a
            mask; otherwise the original is put back into what each step makes.
        answers_extra_images: Whether its API answers images beside those of a batch's rows.
        hides_infotexts: Whether it hides infotexts in the pixels of images.
        starts: How often its start is tried, if it may break by itself.
        folders: Folders that it takes for granted in its data folder.
        fields: Defaults of its page's fields, as its own start notes them for the next.
        hub: Folder in its own with what it wants from the hub; empty if it brings all that.
    """

    id: str
    name: str
    arguments: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    has_patcher: bool = True
    persistent_patches: str = ""
    loads_at_once: bool = False
    shown_checkpoint: str = ""
    noises_the_original: bool = True
    answers_extra_images: bool = True
    hides_infotexts: bool = True
    starts: int = 1
    folders: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    hub: str = ""

    def folder(self) -> Path | None:
        """Returns its folder, or None if it is not named."""
        folder = os.environ.get(self._variable("DIR"))
        return Path(folder).expanduser() if folder else None

    def environment(self) -> dict[str, str]:
        """Returns the variables that it needs beside the harness's own."""
        folder = self.folder()
        return {"HF_HOME": str(folder / self.hub)} if folder is not None and self.hub else {}

    def python(self) -> Path:
        """Returns its interpreter."""
        folder = self.folder()
        assert folder is not None
        default = folder / "venv" / "bin" / "python"
        return Path(os.environ.get(self._variable("PYTHON"), default)).expanduser()

    def missing(self) -> str | None:
        """Returns why it cannot be started, or None."""
        folder = self.folder()
        if folder is None:
            return f"test in a real WebUI: {self._variable('DIR')} is not set"
        if not (folder / "launch.py").exists():
            return f"test in a real WebUI: no launch.py in {folder}"
        if not self.python().exists():
            return f"test in a real WebUI: no interpreter {self.python()}"
        return None

    def _variable(self, what: str) -> str:
        return f"LAYERDIFFUSE_{self.id.upper()}_{what}"


FORGE = Webui("forge", "WebUI Forge", (*_COMMON, "--always-cpu", "--no-half", "--unet-in-fp16"))
NEO = Webui(
    "neo",
    "Forge Neo",
    (*_COMMON, "--skip-version-check", "--cpu", "--fp16-unet", "--fp32-vae", "--fp32-text-enc"),
    # Without the first it takes the settings for an older version's, and waits for Enter.
    {"VERSION_UID": "PY313", "CLIP_stop_at_last_layers": 1},
    shown_checkpoint="forge_checkpoint_sd",
    hides_infotexts=False,
    folders=("tmp",),  # For the images that are sent from one tab to another.
    # Without them its first start pastes no prompts: it takes the type of what is there.
    fields={
        f"{tab}/{name}/value": ""
        for tab in ("txt2img", "img2img")
        for name in ("Prompt", "Negative Prompt")
    },
)
_BY_LDM = (
    *_COMMON,
    "--skip-version-check",
    "--always-cpu",
    "--all-in-fp32",
    "--unet-in-fp16",
    "--no-download-sd-model",
)
REFORGE = Webui(
    "reforge",
    "reForge",
    _BY_LDM,
    noises_the_original=False,
    answers_extra_images=False,
    starts=3,  # One thread looks through all objects while another makes those of the API.
)
CLASSIC = Webui(
    "classic",
    "Forge Classic",
    _BY_LDM,
    persistent_patches="--persistent-patches",
    noises_the_original=False,
)
A1111 = Webui(
    "a1111",
    "AUTOMATIC1111's WebUI",
    (
        *_COMMON,
        "--skip-version-check",
        "--use-cpu=all",
        "--no-half",
        "--no-download-sd-model",
        # A thread of its start would load one beside the first request's, and both be broken.
        "--skip-load-model-at-start",
    ),
    has_patcher=False,
    loads_at_once=True,
    noises_the_original=False,
    answers_extra_images=False,
    hides_infotexts=False,
    hub="huggingface",
)
WEBUIS = (FORGE, NEO, REFORGE, CLASSIC, A1111)


def named() -> tuple[Webui, ...]:
    """Returns the WebUIs whose folders are named, or the first of all if none is."""
    return tuple(webui for webui in WEBUIS if webui.folder() is not None) or WEBUIS[:1]

"""A real ComfyUI's server with folders of its own, and a client of its API."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from layers import given_images
from PIL import Image
from real_comfy import ComfyUI
from safetensors.numpy import load_file, save_file
from server_process import OFFLINE, ServerProcess, link

ROOT = Path(__file__).parents[2]
PACK = "LayerDiffuse"
Prompt = Mapping[str, Mapping[str, Any]]
"""A graph as `/prompt` takes it: class and inputs by the node's id."""


class ComfyServer(ServerProcess):
    """One ComfyUI with this pack.

    The checkout is never written to: models, inputs and outputs are under ``base``.
    """

    def __init__(
        self, comfyui: ComfyUI, base: Path, models: Mapping[str, Iterable[Path]], *arguments: str
    ) -> None:
        """Prepares the folders.

        Args:
            comfyui: The checkout.
            base: Folder for all that it reads and writes, made if missing.
            models: Files to link, by the folder in ``models``.
            arguments: More command line arguments, such as ``--cpu``.
        """
        self.base, self._python, self._arguments = base, comfyui.python, arguments
        for name in ("input", "output", "custom_nodes"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for folder, files in models.items():
            for file in files:
                link(file, base / "models" / folder / file.name)
        link(ROOT, base / "custom_nodes" / PACK)
        super().__init__(comfyui.folder, base / "server.log", OFFLINE)

    def command(self, port: int) -> list[str]:
        """Returns the command that serves on a port."""
        own = ["--disable-auto-launch", "--disable-api-nodes", "--listen", "127.0.0.1"]
        own += ["--database-url", "sqlite:///:memory:", "--base-directory", str(self.base)]
        return [str(self._python), "main.py", *own, "--port", str(port), *self._arguments]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/queue", timeout=30):
                return True
        except (urllib.error.URLError, OSError):
            return False


class NodeError(Exception):
    """A node failed.

    Attributes:
        node: Its class.
        message: What it said.
    """

    def __init__(self, node: str, message: str) -> None:
        """Keeps both."""
        super().__init__(f"{node}: {message}")
        self.node, self.message = node, message


@dataclass(frozen=True)
class Done:
    """What a prompt gave.

    Attributes:
        outputs: What each output node told the page, by its id.
        interrupted: Whether it was stopped.
        seconds: How long it took.
    """

    outputs: Mapping[str, Any]
    interrupted: bool
    seconds: float


class ComfyClient:
    """A client of one server.

    Args:
        server: It, running.
    """

    def __init__(self, server: ComfyServer) -> None:
        self._server = server

    def call(self, path: str, payload: Any = None) -> Any:
        """Returns the server's answer.

        Raises:
            urllib.error.HTTPError: It was none of success; its body is in the reason.
        """
        body = None if payload is None else json.dumps(payload).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._server.url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            error.msg = error.read().decode()
            raise
        return json.loads(text) if text else None

    def queue(self, prompt: Prompt) -> str:
        """Returns the id of a prompt that waits."""
        return self.call("/prompt", {"prompt": prompt})["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 900.0) -> Done:
        """Returns what a prompt gave.

        Raises:
            NodeError: A node failed.
            TimeoutError: It takes longer.
        """
        start = time.monotonic()
        while time.monotonic() - start < timeout:
            found = self.call(f"/history/{prompt_id}").get(prompt_id)
            if found is not None:
                return _done(found)
            time.sleep(0.5)
        raise TimeoutError(f"no end after {timeout:.0f} s")

    def run(self, prompt: Prompt) -> Done:
        """Returns what a prompt gives; raises as `wait` does."""
        return self.wait(self.queue(prompt))

    def interrupt(self) -> None:
        """Stops what runs."""
        self.call("/interrupt", {})

    def put_image(self, name: str, pixels: np.ndarray) -> str:
        """Writes an image that Load Image finds, and returns its name."""
        Image.fromarray(pixels).save(self._server.base / "input" / name)
        return name

    def put_layers(self, size: int) -> None:
        """Writes an image of each layer, by the layer's name."""
        for layer, pixels in given_images(size).items():
            self.put_image(f"{layer.value}.png", pixels)

    def put_latent(self, name: str, latent: np.ndarray) -> str:
        """Writes a latent, VAE's scale, that LoadLatent finds, and returns its name."""
        kept = {"latent_tensor": latent, "latent_format_version_0": np.zeros(0, np.float32)}
        save_file(kept, self._server.base / "input" / name)
        return name

    def latent(self, done: Done, node: str) -> np.ndarray:
        """Returns what a SaveLatent wrote, VAE's scale."""
        (entry,) = done.outputs[node]["latents"]
        return load_file(self._output(entry))["latent_tensor"]

    def images(self, done: Done, node: str) -> list[np.ndarray]:
        """Returns what a SaveImage wrote."""
        found = [self._output(entry).read_bytes() for entry in done.outputs[node]["images"]]
        return [np.asarray(Image.open(io.BytesIO(one))) for one in found]

    def _output(self, entry: Mapping[str, str]) -> Path:
        return self._server.base / "output" / entry["subfolder"] / entry["filename"]


def _done(found: Mapping[str, Any]) -> Done:
    """Returns a prompt's history in our terms."""
    messages = dict(found["status"]["messages"])
    error = messages.get("execution_error")
    if error is not None:
        raise NodeError(error["node_type"], error["exception_message"])
    interrupted = "execution_interrupted" in messages
    ends = [messages[key]["timestamp"] for key in messages if key != "execution_start"]
    seconds = (max(ends) - messages["execution_start"]["timestamp"]) / 1000
    return Done(found["outputs"], interrupted, seconds)

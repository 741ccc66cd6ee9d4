"""Starts and stops a real WebUI with a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from webuis import FORGE, Webui

HERE = Path(__file__).parent
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "SD_WEBUI_RESTARTING": "1",  # opens no browser
    "PYTHONUNBUFFERED": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


class ForgeServer:
    """One WebUI process.

    The checkout is never written to: models, extensions, settings and images are under
    ``data_dir``. A second server on the same data folder is the first one restarted.

    Attributes:
        environment: Variables that the next start sets.
        url: Address of the running server.
        log_path: What the server prints; kept after the server stops.
    """

    def __init__(
        self,
        forge_dir: Path,
        python: Path,
        data_dir: Path,
        *,
        checkpoints: Iterable[Path] = (),
        layer_weights: Iterable[Path] = (),
        loras: Iterable[Path] = (),
        controlnets: Iterable[Path] = (),
        extensions: Mapping[str, Path] | None = None,
        options: Mapping[str, Any] | None = None,
        webui: Webui = FORGE,
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        web_page: bool = False,
    ) -> None:
        """Prepares the data folder.

        Args:
            forge_dir: Checkout of the WebUI, with what it clones, if anything.
            python: Interpreter that has the WebUI's requirements.
            data_dir: Data folder, made if missing.
            checkpoints: Files to link into ``models/Stable-diffusion``.
            layer_weights: Files to link into ``models/layer_model``.
            loras: Files to link into ``models/Lora``.
            controlnets: Files to link into ``models/ControlNet``, which is read once, at the start.
            extensions: Folders to link into ``extensions``, by name. The probe is always added.
            options: Settings, over the harness's own.
            webui: Which of them it is.
            arguments: More command line arguments.
            environment: Variables over the harness's own, which keep the server offline.
            web_page: Whether to serve the web page too and not the API alone.
        """
        self.forge_dir, self.python, self.data_dir = forge_dir, python, data_dir
        self.arguments = [*webui.arguments, *(() if web_page else ("--nowebui",)), *arguments]
        self.environment = {**OFFLINE, **webui.environment(), **(environment or {})}
        self.url, self._starts = "", webui.starts
        self.log_path = data_dir / "server.log"
        self._process: subprocess.Popen | None = None
        for folder, files in (
            ("models/Stable-diffusion", checkpoints),
            ("models/layer_model", layer_weights),
            ("models/Lora", loras),
            ("models/ControlNet", controlnets),
        ):
            for file in files:
                link(file, data_dir / folder / file.name)
        for name, folder in {**(extensions or {}), "e2e-probe": HERE / "probe"}.items():
            link(folder, data_dir / "extensions" / name)
        settings = {"live_previews_enable": False, **webui.settings, **(options or {})}
        (data_dir / "config.json").write_text(json.dumps(settings))
        if webui.fields:
            (data_dir / "ui-config.json").write_text(json.dumps(dict(webui.fields)))
        for name in webui.folders:
            (data_dir / name).mkdir(exist_ok=True)

    @property
    def log(self) -> str:
        """Everything printed since the last start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self, timeout: float = 300.0) -> ForgeServer:
        """Starts the server and waits until it answers.

        Raises:
            RuntimeError: The server ended or was not ready in time; has the end of its log.
        """
        for _ in range(self._starts):
            if self._started(timeout):
                return self
        raise RuntimeError(f"the server did not start:\n{self.log[-4000:]}")

    def _started(self, timeout: float) -> bool:
        """Starts the server; returns whether it answers in time."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(self.python), "launch.py", *self.arguments, f"--port={port}"]
        command.append(f"--data-dir={self.data_dir}")
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.forge_dir,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                return False
            time.sleep(0.5)
        return True

    def _ready(self) -> bool:
        if "Startup time" not in self.log:
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/sdapi/v1/options", timeout=30):
                return True
        except urllib.error.HTTPError as error:
            # It asks for a password, or the API is off: it answers.
            return error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Ends the server and everything that it started."""
        if self._process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(timeout=10)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def restart(self) -> ForgeServer:
        """Stops and starts the server; its address changes."""
        self.stop()
        return self.start()

    def __enter__(self) -> ForgeServer:
        """Starts the server."""
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        """Stops the server."""
        self.stop()


def link(target: Path, place: Path) -> None:
    """Makes ``place`` a symbolic link to ``target``."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target.resolve())


def free_port() -> int:
    """Returns a loopback port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

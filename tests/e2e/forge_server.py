"""Starts and stops a real WebUI with a data folder of its own.

Environment:
    LAYERDIFFUSE_E2E_OPTIONS: More of the WebUI's settings, in JSON; with
        ``{"fp8_storage": "Enable for SDXL"}`` AUTOMATIC1111's WebUI takes half the memory.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from server_process import OFFLINE, ServerProcess, link
from webuis import FORGE, Webui

HERE = Path(__file__).parent
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "SD_WEBUI_RESTARTING": "1",  # opens no browser
}


class ForgeServer(ServerProcess):
    """One WebUI process.

    The checkout is never written to: models, extensions, settings and images are under
    ``data_dir``. A second server on the same data folder is the first one restarted.

    Attributes:
        arguments: Command line arguments of the next start.
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
        variables = {**OFFLINE, **QUIET, **webui.environment(), **(environment or {})}
        super().__init__(forge_dir, data_dir / "server.log", variables, webui.starts)
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
        named = json.loads(os.environ.get("LAYERDIFFUSE_E2E_OPTIONS", "{}"))
        own = {"live_previews_enable": False, **webui.settings}
        settings = {**own, **named, **(options or {})}
        (data_dir / "config.json").write_text(json.dumps(settings))
        if webui.fields:
            (data_dir / "ui-config.json").write_text(json.dumps(dict(webui.fields)))
        for name in webui.folders:
            (data_dir / name).mkdir(exist_ok=True)

    def command(self, port: int) -> list[str]:
        """Returns the command that serves on a port."""
        command = [str(self.python), "launch.py", *self.arguments, f"--port={port}"]
        return [*command, f"--data-dir={self.data_dir}"]

    def ready(self) -> bool:
        """Whether it answers."""
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

"""`ServerProcess`: a server that tests start, wait for and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


class ServerProcess(ABC):
    """One process, with what it prints in a file.

    Attributes:
        environment: Variables that the next start sets.
        url: Address of the running server.
        log_path: What the server prints; kept after the server stops.
    """

    def __init__(
        self, folder: Path, log_path: Path, environment: Mapping[str, str], starts: int = 1
    ) -> None:
        """Starts nothing yet.

        Args:
            folder: Where it is started.
            log_path: File for what it prints.
            environment: Variables over this process's own.
            starts: How often it has to be started until it answers.
        """
        self.environment, self.log_path, self.url = dict(environment), log_path, ""
        self._folder, self._starts = folder, starts
        self._process: subprocess.Popen | None = None

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Returns the command that serves on a port."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    def log(self) -> str:
        """Everything printed since the last start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def memory(self) -> int:
        """Returns what the running server holds, in bytes, without pages of mapped files: Linux."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (held,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(held.split()[1]) << 10

    def start(self, timeout: float = 300.0) -> Any:
        """Starts the server, waits until it answers, and returns it.

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
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(port),
                cwd=self._folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                return False
            time.sleep(0.5)
        return True

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

    def restart(self) -> Any:
        """Stops and starts the server, and returns it; its address changes."""
        self.stop()
        return self.start()

    def __enter__(self) -> Any:
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

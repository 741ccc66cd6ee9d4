"""A Ray cluster of two nodes on this computer, in network namespaces or on the loopback device."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from command_runs import ROOT
from processes_here import children_of, is_called, wait_for

RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_memory_monitor_refresh_ms": "0",  # No worker is killed but by us.
}
_PORT = 6379
_STORE = 100_000_000


@dataclass(frozen=True)
class Where:
    """Where a node runs.

    Attributes:
        ip: Its address.
        port: Of the cluster.
        space: The network namespace; None for this process' own.
    """

    ip: str
    port: int = _PORT
    space: str | None = None


class _Node:
    """Ray's processes of one node."""

    def __init__(self, where: Where, head: Where, folder: Path, cpus: int) -> None:
        self.where = where
        options = [f"--address={head.ip}:{head.port}"]
        if where is head:
            options = ["--head", f"--port={head.port}", f"--temp-dir={folder}"]
        options += [f"--node-ip-address={where.ip}", f"--num-cpus={cpus}", "--block"]
        options += [f"--object-store-memory={_STORE}", "--disable-usage-stats"]
        within = [] if where.space is None else ["ip", "netns", "exec", where.space]
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), *sys.path])
        log = Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", "ray.scripts.scripts", "start", *options],
                env={**os.environ, **RAY, "PYTHONPATH": paths},
                stdout=out,
                stderr=out,
            )
        self._seen: set[int] = set()
        wait_for(lambda: self._process.poll() is not None or " started." in log.read_text("utf-8"))
        assert self._process.poll() is None, log.read_text("utf-8")

    @property
    def processes(self) -> list[int]:
        found = children_of(self._process.pid)
        self._seen.update(found)
        return found

    def kill(self) -> None:
        """Kills what keeps it in the cluster; the rest ends with that, or is ended."""
        for one in self.processes:
            if is_called(one, "raylet"):
                os.kill(one, signal.SIGKILL)

    def close(self) -> None:
        ours = {*self.processes, *self._seen}
        self._process.kill()
        self._process.wait()
        for one in ours:
            if is_called(one, "ray", "gcs_server", "python"):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)


class Cluster:
    """A head and another node.

    Args:
        places: Where they are.
        cpus: How many actors each has room for.
    """

    def __init__(self, places: Sequence[Where], cpus: tuple[int, int] = (1, 1)) -> None:
        self._places, self._cpus = places, cpus
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # Sockets' paths have to be short.
        self.address = f"{places[0].ip}:{places[0].port}"
        self.head = self._start(0)
        try:
            self.other = self._start(1)
        except BaseException:
            self.head.close()
            raise

    def _start(self, index: int) -> _Node:
        return _Node(self._places[index], self._places[0], self._folder, self._cpus[index])

    @property
    def processes(self) -> list[int]:
        return [*self.head.processes, *self.other.processes]

    def kill_other(self) -> None:
        """Ends a node at once."""
        self.other.kill()

    def start_other(self, cpus: int | None = None) -> None:
        """Puts a node in the place of that other one; it has room for as many, or for so many."""
        self.other.close()
        self._cpus = self._cpus[0], self._cpus[1] if cpus is None else cpus
        self.other = self._start(1)

    def close(self) -> None:
        for node in (self.other, self.head):
            node.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def on_loopback() -> Iterator[list[Where]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield [Where("127.0.0.1", port), Where("127.0.0.1", port)]


@contextmanager
def in_namespaces() -> Iterator[list[Where]]:
    """Two network namespaces, each with an end of a cable.

    Raises:
        OSError, CalledProcessError: They cannot be made.
    """
    names = [f"layers-{os.getpid()}-{end}" for end in "ab"]
    ends = [f"ld{os.getpid()}{end}" for end in "ab"]
    with ExitStack() as until_end:
        for name in names:
            _ip("netns", "add", name)
            until_end.callback(_ip, "netns", "del", name)
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        found = []
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            ip = f"10.213.0.{number}"
            _ip("link", "set", end, "netns", name)
            _ip("-n", name, "addr", "add", f"{ip}/24", "dev", end)
            for device in (end, "lo"):
                _ip("-n", name, "link", "set", device, "up")
            found.append(Where(ip, space=name))
        yield found


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def in_namespaces_or_on_loopback() -> Iterator[list[Where]]:
    """What can be made here; network namespaces are for the superuser."""
    with ExitStack() as until_end:
        try:
            found = until_end.enter_context(in_namespaces())
        except (OSError, subprocess.CalledProcessError):
            found = until_end.enter_context(on_loopback())
        yield found

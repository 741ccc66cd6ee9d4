"""Workers as actors of a Ray cluster. Needs the extra `batch`."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import HostError, MissingCapabilityError, in_one_line
from .figures import counted
from .pools import AT_ONCE, Busy, Crew, Gone, Outcome, Task
from .worker import Answer, Setup, Worker

_log = logging.getLogger(__name__)
LOCAL = "local"
"""The address of a cluster that is started here and ends with the run."""
_STORE = 100 * 2**20  # Bytes; what goes from process to process is texts.
_NO_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
"""Set before Ray is imported: its ports are those of the loopback device, as on these systems."""

_PATIENCE = 60.0
"""Seconds without any actor that works until people are told why."""


@dataclass(eq=False)
class _Actor(Busy):
    handle: Any = None
    begun: Any = None  # Promises that the actor is there.
    nodes: frozenset[str] = frozenset()  # Its node or, until it has begun, all there were.


class RayPool(Crew[_Actor]):
    """Actors, each with a GPU of its own where the cluster has some.

    Args:
        setup: For each actor; the device is Ray's choice.
        address: The cluster's, as `ray.init` takes it.
        workers: How many; None for one for each GPU.
    """

    def __init__(self, setup: Setup, address: str, workers: int | None) -> None:
        if address == LOCAL:
            os.environ.setdefault(*_NO_NETWORK)
        self._ray = _ray()
        self._setup = setup
        here = {"include_dashboard": False, "object_store_memory": _STORE}
        if workers is not None:
            here["num_cpus"] = workers
        when_asked_to_end = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                address=address,
                log_to_driver=False,
                logging_level="error",
                **(here if address == LOCAL else {}),
            )
            gpus = int(self._ray.cluster_resources().get("GPU", 0))
        except Exception as error:  # Ray has exceptions of every kind.
            said = in_one_line(error)
            raise HostError(
                f"There is no Ray cluster at {address}: {said[:300]}.",
                "Check --address, and that the cluster runs the same versions of Ray and Python.",
            ) from error
        signal.signal(signal.SIGTERM, when_asked_to_end)  # Ray would end this process unheard.
        self._gpus = 1 if gpus else 0
        self._lost: set[str] = set()
        self._say_at = time.monotonic() + _PATIENCE
        self._running: dict[Any, tuple[_Actor, Any, frozenset[str], int]] = {}
        super().__init__([_Actor() for _ in range(workers or max(1, gpus))])
        for actor in self._workers:
            self._start(actor)

    def _start(self, worker: _Actor) -> None:
        # Not started again by Ray: meanwhile each call would end as if the actor had died of it,
        # while calls of a new one wait.
        options = {"max_restarts": 0, "max_concurrency": AT_ONCE}
        made = self._ray.remote(Worker).options(num_cpus=1, num_gpus=self._gpus, **options)
        worker.nodes = frozenset(one["NodeID"] for one in self._ray.nodes() if one["Alive"])
        worker.handle = made.remote(self._setup)
        worker.begun = worker.handle.__ray_call__.remote(_node_of)

    def submit(self, task: Task, *, by_itself: bool) -> None:
        """As in `Pool`."""
        actor = self._taking(task, by_itself=by_itself)
        promise = actor.handle.run.remote(task.requests, task.wanted, task.tries)
        self._running[promise] = actor, actor.handle, actor.nodes, task.number

    def answers(self, timeout: float) -> list[Outcome]:
        """As in `Pool`."""
        starting = {one.begun: one for one in self._workers if not one.ready}
        there, _ = self._ray.wait([*self._running, *starting], timeout=timeout)
        for promise in there:
            if promise in starting:
                self._begin(starting[promise])
        self._tell_of_waiting()
        return [self._answer(promise) for promise in there if promise in self._running]

    def _tell_of_waiting(self) -> None:
        """Says once what is asked for and what there is, while no actor has a place."""
        now = time.monotonic()
        if any(one.ready for one in self._workers):
            self._say_at = now + _PATIENCE
        elif now > self._say_at:
            self._say_at = math.inf
            needs = {"CPU": 1, "GPU": 1} if self._gpus else {"CPU": 1}
            there, free = self._ray.cluster_resources(), self._ray.available_resources()
            _log.warning(
                "no worker has begun for %.0f s. Each needs %s on one node; the cluster has %s, of "
                "which %s are free; workers that still load hold theirs. The run goes on waiting: "
                "`ray status` tells what holds the rest, and a computer where you run `ray start "
                "--address=HEAD:PORT` adds its own.",
                _PATIENCE,
                *(_in_words(needs, of) for of in (needs, there, free)),
            )

    def _begin(self, actor: _Actor) -> None:
        """Notes that an actor is there, or that it cannot begin."""
        try:
            actor.nodes = frozenset([self._ray.get(actor.begun)])
        except self._ray.exceptions.RayError as error:
            said = f"No worker begins on the cluster: {in_one_line(error)[:300]}."
            hint = "Install this package, with [batch] and [standalone], on all nodes."
            # If it has died with its node, so may others.
            self._bury(actor, None if self._has_lost(actor.nodes) else HostError(said, hint))
        else:
            self._begun(actor)

    def _answer(self, promise: Any) -> Outcome:
        actor, handle, nodes, number = self._running.pop(promise)
        actor.drop(number)
        try:
            answer: Answer = self._ray.get(promise)
        except self._ray.exceptions.RayError:
            if handle is actor.handle:  # Of several tasks the first one brings a new actor.
                self._bury(actor, None)
            return number, Gone.LOST if self._has_lost(nodes) else Gone.DIED
        return number, answer

    def _bury(self, actor: _Actor, reason: HostError | None) -> None:
        """Ends a dead actor, and replaces it."""
        self._ray.kill(actor.handle)
        self._replace(actor, reason)

    def _has_lost(self, nodes: frozenset[str]) -> bool:
        """Whether the cluster has lost one of some nodes; says once of each that it has."""
        lost = [one for one in self._ray.nodes() if one["NodeID"] in nodes and not one["Alive"]]
        for one in lost:
            if one["NodeID"] not in self._lost:
                self._lost.add(one["NodeID"])
                said = "the cluster has lost its node %s; what ran there runs again"
                _log.warning(said, one["NodeManagerAddress"])
        return bool(lost)

    def close(self) -> None:
        """As in `Pool`."""
        for actor in self._workers:
            self._ray.kill(actor.handle)
        self._ray.shutdown()


def _node_of(_: Worker) -> str:
    """Returns the node that an actor runs on; called there."""
    node: str = _ray().get_runtime_context().get_node_id()
    return node


def _in_words(names: Iterable[str], resources: Mapping[str, float]) -> str:
    """Returns how many there are of some of the things that Ray counts."""
    return " and ".join(counted(int(resources.get(name, 0)), name) for name in names)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingCapabilityError(
            "Ray is not installed, which --address needs.", 'Run pip install ".[batch]".'
        ) from error
    return ray

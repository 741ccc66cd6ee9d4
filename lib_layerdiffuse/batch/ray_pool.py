"""Workers as actors of a Ray cluster. Needs the extra `batch`."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from ..errors import HostError, MissingCapabilityError, in_one_line
from .pools import AT_ONCE, STARTS, Busy, Crew, Task
from .worker import Answer, Setup, Worker

LOCAL = "local"
"""The address of a cluster that is started here and ends with the run."""
_STORE = 100 * 2**20  # Bytes; what goes from process to process is texts.
_NO_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
"""Set before Ray is imported: its ports are those of the loopback device, as on these systems."""


@dataclass
class _Actor(Busy):
    handle: Any
    begun: Any  # Promises that the actor is there.


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
        self._failed_starts = 0
        super().__init__([_Actor(*self._started()) for _ in range(workers or max(1, gpus))])
        self._running: dict[Any, tuple[_Actor, Any, int]] = {}

    def _started(self) -> tuple[Any, Any]:
        # Not started again by Ray: meanwhile each call would end as if the actor had died of it,
        # while calls of a new one wait.
        options = {"max_restarts": 0, "max_concurrency": AT_ONCE}
        made = self._ray.remote(Worker).options(num_cpus=1, num_gpus=self._gpus, **options)
        handle = made.remote(self._setup)
        return handle, handle.__ray_ready__.remote()

    def submit(self, task: Task, *, by_itself: bool) -> None:
        """As in `Pool`."""
        actor = self._taking(task, by_itself=by_itself)
        promise = actor.handle.run.remote(task.requests, task.wanted, task.tries)
        self._running[promise] = actor, actor.handle, task.number

    def answers(self, timeout: float) -> list[tuple[int, Answer | None]]:
        """As in `Pool`."""
        starting = {one.begun: one for one in self._workers if not one.ready}
        there, _ = self._ray.wait([*self._running, *starting], timeout=timeout)
        for promise in there:
            if promise in starting:
                self._begin(starting[promise])
        return [self._answer(promise) for promise in there if promise in self._running]

    def _begin(self, actor: _Actor) -> None:
        """Notes that an actor is there, or that it cannot begin."""
        try:
            self._ray.get(actor.begun)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                said = in_one_line(error)[:300]
                hint = "Install this package, with [batch] and [standalone], on all nodes."
                raise HostError(f"No worker begins on the cluster: {said}.", hint) from error
            self._replace(actor)
        else:
            self._failed_starts, actor.ready = 0, True

    def _answer(self, promise: Any) -> tuple[int, Answer | None]:
        actor, handle, number = self._running.pop(promise)
        actor.drop(number)
        try:
            answer: Answer = self._ray.get(promise)
        except self._ray.exceptions.RayError:
            if handle is actor.handle:  # Of several tasks the first one brings a new actor.
                self._replace(actor)
            return number, None
        return number, answer

    def _replace(self, actor: _Actor) -> None:
        """Gives a dead actor a successor."""
        self._ray.kill(actor.handle)
        actor.handle, actor.begun = self._started()
        actor.ready = False

    def close(self) -> None:
        """As in `Pool`."""
        for actor in self._workers:
            self._ray.kill(actor.handle)
        self._ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingCapabilityError(
            "Ray is not installed, which --address needs.", 'Run pip install ".[batch]".'
        ) from error
    return ray

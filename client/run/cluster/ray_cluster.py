"""A Ray cluster makes the images: `run --executor ray`. No ComfyUI server is needed.

    with RayCluster("10.0.0.1:6379") as cluster:
        run_plan(workflow, cluster, "data/synthetic")

An actor per GPU, or per `cores` CPU cores where the cluster has no GPU, holds one embedded engine.
Batches in order, some at a time, are the actors' calls; their images come back to this process,
which alone writes the labelled folder. So the folder needs no shared disk, and a killed actor or a
lost machine costs the batches that it was making, which go to the next free actor. Ray places the
actors, restarts them, and moves them to other machines; machines that join late get actors too.

crew.py gives the actors their batches. Ray is imported when a cluster is opened.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from synthgrid.ray_cluster import connect

from ...errors import ClientError, ServerUnreachable
from .. import events
from .worker import EngineWorker, Introduction

log = logging.getLogger(__name__)

CORES = 4  # of an actor on a cluster without GPUs, or as many as its largest machine has
_LOOK_S = 5.0  # how often we look for machines that have joined
_ASK_AGAIN_S = 0.5
_GOODBYE_S = 5.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(eq=False)
class Hand:
    """An actor. `state` is as in events.ServerDown, or "" before it is up."""

    name: str
    actor: Any
    state: str = ""
    host: str = ""
    reason: str = ""


class RayCluster:
    """The engines on a Ray cluster. A context manager; leaving it stops the actors.

    Args:
        address: as in `synthgrid.ray_cluster.connect`.
        cores: CPU cores that an actor reserves; by default 1 beside a GPU, else CORES.
        checkpoint_directories, input_directory: as for EmbeddedServer, at the same path on every
            machine.
        start_s: the longest wait for the first actor.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cores: int | None = None,
        checkpoint_directories: tuple[Path, ...] = (),
        input_directory: Path | None = None,
        start_s: float = 300.0,
    ) -> None:
        if cores is not None and cores < 1:
            raise ClientError(f"cores per worker is {cores}; expected a number from 1")
        self._address = address
        self._cores = cores
        self._arguments = (checkpoint_directories, input_directory)
        self._start_s = start_s
        self._ray: Any = None
        self._greetings: dict[Any, Hand] = {}  # reference -> who was asked to introduce itself
        self._absent: dict[Hand, float] = {}  # who was not there -> when
        self._looked = 0.0
        self._first: Introduction | None = None
        self.hands: list[Hand] = []

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ray(self) -> Any:
        """The module `ray`, connected. Raises as `introduction` does."""
        if self._ray is None:
            self._ray = connect(self._address)
        return self._ray

    def introduction(self) -> Introduction:
        """What the first actor to be up says of its engine.

        Raises:
            ClientError: no machine of the cluster has room for an actor.
            ModuleNotFoundError: Ray is not installed here.
            ServerUnreachable: no actor came up.
            SynthGridError: no cluster at this address.
        """
        deadline = time.monotonic() + self._start_s
        while self._first is None:
            self.hire()
            for hand in self.greeted(timeout_s=1.0):
                log.debug("%s is %s", hand.name, hand.state)
            self.refuse_without_hands()
            if self._first is None and time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"no worker of the Ray cluster came up within {self._start_s:.0f} s; "
                    "look at `ray status` for what it waits for"
                )
        return self._first

    def hire(self) -> None:
        """Starts an actor for every place that has none; now and then, since machines may join.

        Actors that Ray is starting again are asked whether they are there.
        """
        for hand, since in list(self._absent.items()):
            if time.monotonic() - since > _ASK_AGAIN_S:
                del self._absent[hand]
                self.greet(hand)
        if time.monotonic() - self._looked < _LOOK_S and self.hands:
            return
        self._looked = time.monotonic()
        places, resources = self._places()
        for number in range(len(self.hands), places):
            worker = self.ray.remote(EngineWorker).options(max_restarts=-1, **resources)
            hand = Hand(f"ray-{number}", worker.remote(*self._arguments))
            self.hands.append(hand)
            self.greet(hand)

    def greet(self, hand: Hand) -> None:
        """Asks an actor to introduce itself, as soon as Ray has placed it."""
        self._greetings[hand.actor.introduce.remote()] = hand

    def greeted(self, *, timeout_s: float, beside: list[Any] | None = None) -> list[Hand]:
        """The actors that answered or ended since: `state` is UP or OUT, or as before.

        Waits up to `timeout_s`, but only until one of these or a reference in `beside` is ready.
        """
        waiting = [*self._greetings, *(beside or ())]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, _ = self.ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if ready:  # whatever else is ready by now
            ready, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=0)
        answered = [each for each in ready if each in self._greetings]
        return [self._answer(reference) for reference in answered]

    def refuse_without_hands(self) -> None:
        """Raises ServerUnreachable if no actor works or ever will."""
        if self.hands and all(hand.state == events.OUT for hand in self.hands):
            raise ServerUnreachable(
                f"no worker of the Ray cluster can work: {self.hands[-1].reason}"
            )

    def close(self) -> None:
        """Stops the actors, and Ray itself where it was started here."""
        ray, self._ray = self._ray, None
        if ray is None:
            return
        working = [hand.actor for hand in self.hands if hand.state == events.UP]
        try:
            ray.wait(
                [actor.close.remote() for actor in working] or [ray.put(None)],
                num_returns=max(1, len(working)),
                timeout=_GOODBYE_S,
            )
            for hand in self.hands:
                ray.kill(hand.actor)
        except Exception as error:
            log.debug("could not stop the workers: %s", error)
        ray.shutdown()

    def _answer(self, reference: Any) -> Hand:
        hand = self._greetings.pop(reference)
        try:
            found: Introduction = self.ray.get(reference)
        except self.ray.exceptions.ActorUnavailableError:
            self._absent[hand] = time.monotonic()
        except self.ray.exceptions.RayError as error:
            hand.state, hand.reason = events.OUT, reason_of(error)
            log.warning("worker %s is out: %s", hand.name, hand.reason)
        else:
            hand.state, hand.host = events.UP, found.host
            self._first = self._first or found
        return hand

    def _places(self) -> tuple[int, dict[str, int]]:
        """How many actors the machines have room for, and what each reserves."""
        machines = [each["Resources"] for each in self.ray.nodes() if each["Alive"]]
        gpus = sum(int(each.get("GPU", 0)) for each in machines)
        if gpus:
            return gpus, {"num_gpus": 1, "num_cpus": self._cores or 1}
        most = max((int(each.get("CPU", 0)) for each in machines), default=0)
        cores = self._cores or max(1, min(CORES, most))
        places = sum(int(each.get("CPU", 0)) // cores for each in machines)
        if not places and not self.hands:
            raise ClientError(
                f"no machine of the Ray cluster has {cores} cores for a worker; the largest has "
                f"{most}: give fewer with --cores-per-worker"
            )
        return places, {"num_gpus": 0, "num_cpus": cores}


def reason_of(error: BaseException) -> str:
    """Ray's message in one line: the last one, which has the cause."""
    lines = [_COLOURS.sub("", line).strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)

"""One run's work on a Ray cluster, as dispatch does it on servers; its jobs.py says what is where.

The batches of a call are saved together when it returns. This thread alone calls the actors and
writes the folder, so nothing here needs a lock but what run_state.py shares with others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from comfy_nodes.labelset import ImageRecord

from ...errors import ServerUnreachable
from ...server.fleet import Patience
from .. import events
from ..dispatch.dispatcher import Check
from ..dispatch.jobs import Job, Jobs
from ..dispatch.run_state import SharedState
from ..plan_jobs import PlanWork
from .ray_cluster import Hand, RayCluster, reason_of
from .worker import Made, Order

log = logging.getLogger(__name__)

_ROWS = 64  # about as many rows a call: short beside a run, long beside the cost of a call
_DEPTH = 2  # calls at a time on an actor: one runs, one waits


class Crew:
    """Does one run's work on a cluster, as Dispatcher does on servers; good for one `run`."""

    def __init__(
        self,
        cluster: RayCluster,
        *,
        tries: int = 3,
        patience: Patience | None = None,
        on_event: Callable[[events.AnyEvent], None] | None = None,
        on_step: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._tries = tries
        self._patience = patience or Patience()
        self._on_event = on_event
        self._on_step = on_step

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """The cluster is its owner's to close."""

    @property
    def names(self) -> tuple[str, ...]:
        """The actors' names."""
        return tuple(hand.name for hand in self._cluster.hands)

    def connect(self, check: Check) -> list[dict[str, Any]]:
        """Waits for the first actor and describes its engine. Raises what `check` does."""
        found = self._cluster.introduction()
        check(found.object_info, found.stats)
        return [{"name": "ray", **found.description}]

    def run(self, work: PlanWork, *, resumed: bool = False) -> None:
        """Does the work; raises as `Dispatcher.run` does."""
        jobs = Jobs(work.missing_jobs(), tries=self._tries)
        shared = SharedState(
            work, jobs, patience=self._patience, on_event=self._on_event, on_step=self._on_step
        )
        shift = _Shift(self._cluster, work, shared)
        try:
            shift.work()
        except BaseException as error:
            shared.fail(error)
        finally:
            shared.close()
        if shared.error is not None:
            raise shared.error


class _Shift:
    """One run's calls to the actors, on one thread."""

    def __init__(self, cluster: RayCluster, work: PlanWork, shared: SharedState) -> None:
        self._cluster, self._work, self._shared = cluster, work, shared
        self._jobs = shared.jobs
        self._ray = cluster.ray
        self._workflow = self._ray.put(work.workflow)
        self._batches = max(1, _ROWS // work.workflow.batch_size)  # a call
        self._calls: dict[Any, tuple[Hand, tuple[Job, ...]]] = {}

    def work(self) -> None:
        """Until every image is saved or given up. Raises ServerUnreachable: no actor is left."""
        for hand in self._cluster.hands:
            if hand.state == events.UP:
                self._join(hand)
        last_up = time.monotonic()
        while not self._shared.ended:
            self._cluster.hire()
            up = [hand for hand in self._cluster.hands if hand.state == events.UP]
            last_up = time.monotonic() if up else last_up
            for depth in range(1, _DEPTH + 1):  # first one call for each
                for hand in up:
                    self._post(hand, depth)
            for hand in self._cluster.greeted(timeout_s=0.5, beside=list(self._calls)):
                if hand.state == events.UP:
                    self._join(hand)
                elif hand.state == events.OUT:
                    self._tell_down(hand)
            self._collect()
            self._cluster.refuse_without_hands()
            if time.monotonic() - last_up > self._shared.patience.give_up_s:
                raise ServerUnreachable("the Ray cluster has had no worker for too long")

    def _join(self, hand: Hand) -> None:
        self._jobs.join(hand.name)
        self._shared.tell(events.ServerUp(server=hand.name, url=f"ray://{hand.host}"))

    def _post(self, hand: Hand, depth: int) -> None:
        """Posts a call to an actor that has fewer than `depth`; one waits while another runs."""
        if sum(each is hand for each, _ in self._calls.values()) >= depth:
            return
        taken = (self._jobs.take(hand.name) for _ in range(self._batches))
        jobs = tuple(job for job in taken if job is not None)
        if not jobs:
            return
        order = Order(self._work.folder.run_id, jobs, self._rejected(jobs))
        self._calls[hand.actor.make.remote(self._workflow, order)] = (hand, jobs)
        for job in jobs:
            posted = self._jobs.posted(hand.name, job)
            self._shared.tell_posted(hand.name, posted, found=False)

    def _rejected(self, jobs: tuple[Job, ...]) -> dict[int, int]:
        rejected = self._work.folder.rejected
        return {
            index: rejected[index] for job in jobs for index in job.indices if index in rejected
        }

    def _collect(self) -> None:
        """Takes what the actors have finished, and hands on what a lost actor had."""
        ready = (
            self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)[0]
            if self._calls
            else []
        )
        for reference in ready:
            if reference not in self._calls:  # of an actor that was lost a moment ago
                continue
            hand, jobs = self._calls.pop(reference)
            try:
                made: Made = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                self._lose(hand, error)
                continue
            except self._ray.exceptions.RayError as error:
                made = Made(problem=reason_of(error))
            self._take(hand, jobs, made)

    def _take(self, hand: Hand, jobs: tuple[Job, ...], made: Made) -> None:
        """Saves the images of a call in one go, which costs one wait for the disk."""
        wanted = frozenset[int]().union(*map(self._jobs.wanted, jobs))
        images = {each[0].index: each for each in made.images if each[0].index in wanted}
        self._work.save_all([images[index] for index in sorted(images)])
        on_it = {job.batch_index: job for job in self._jobs.on(hand.name)}
        for job in jobs:
            saved = [images[index][0] for index in job.indices if index in images]
            for record in saved:
                self._jobs.deliver(job, record.index)
                self._tell_saved(hand, record)
            outcome = self._jobs.finish(hand.name, on_it[job.batch_index])
            self._shared.tell(
                events.JobFinished(
                    server=hand.name,
                    prompt_id=self._work.prompt_id(job),
                    batch_index=job.batch_index,
                    images=len(saved),
                )
            )
            problem = made.problem or "the worker returned no image"
            self._shared.tell_outcome(hand.name, job, outcome, problem)

    def _tell_saved(self, hand: Hand, record: ImageRecord) -> None:
        self._shared.tell(
            events.ImageSaved(
                server=hand.name,
                index=record.index,
                label=record.label,
                file_name=record.file_name,
            )
        )

    def _lose(self, hand: Hand, error: BaseException) -> None:
        """The actor was lost: its batches go to the next free one, while Ray starts it again."""
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] is not hand}
        hand.state, hand.reason = events.DOWN, reason_of(error)
        log.warning("worker %s was lost; its batches go to the next: %s", hand.name, hand.reason)
        self._tell_down(hand)
        self._cluster.greet(hand)

    def _tell_down(self, hand: Hand) -> None:
        moved, outcome = self._jobs.leave(hand.name)
        self._shared.tell(events.ServerDown(server=hand.name, state=hand.state, reason=hand.reason))
        for job in moved:
            self._jobs.settle(hand.name, job)  # nothing comes from a lost actor any more
            self._shared.tell_moved(hand.name, job)
        if outcome.failed:
            reason = f"the worker was lost every time it ran; last: {hand.reason}"
            self._shared.tell_outcome(hand.name, moved[0], outcome, reason)

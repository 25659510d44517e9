"""What the threads of one run share: the work, the job table, the callbacks, and one lock.

The job table and the folder change together, under the lock, so that every image is in the folder
exactly once, no matter which server made it. No thread waits for a server while it holds the lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from comfy_nodes.labelset import ImageRecord

from ...errors import JobFailed
from ...server.fleet import Patience
from ...server.protocol import JobResult
from .. import events
from .jobs import Job, Jobs, Outcome

log = logging.getLogger(__name__)


class Work(Protocol):
    """What the jobs are. `save` is called under the lock; the rest is safe on any thread."""

    def check(self, object_info: Mapping[str, Any], stats: Mapping[str, Any] | None = None) -> None:
        """Raises WorkflowError if a server with this /object_info cannot do the work.

        `stats` is its /system_stats, given before the run only.
        """

    def missing_jobs(self) -> Iterator[Job]:
        """The jobs to do, in order; drawn from under the lock."""

    def prompt_id(self, job: Job) -> str:
        """The id of a job's prompt: the same for the same job, in every process."""

    def graph(self, job: Job) -> dict[str, Any]:
        """The graph to post."""

    def label(self, index: int) -> str:
        """The class of an image."""

    def entries(self, result: JobResult) -> dict[int, tuple[ImageRecord, Any]]:
        """Index -> (record, location) of each image of a result. Raises ServerRefused."""

    def save(self, record: ImageRecord, data: bytes) -> None:
        """Saves an image. What it raises ends the whole run."""


class SharedState:
    """What the threads of one run share. Use it under `lock`, except `stopping`."""

    def __init__(
        self,
        work: Work,
        jobs: Jobs,
        *,
        patience: Patience,
        on_event: Callable[[events.AnyEvent], None] | None = None,
        on_step: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.work = work
        self.jobs = jobs
        self.patience = patience
        self.lock = threading.Condition(threading.RLock())
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.closed = False
        self._on_event = on_event
        self._on_step = on_step

    @property
    def ended(self) -> bool:
        """Whether all the work is done, or the run is to stop."""
        with self.lock:
            return self.stopping.is_set() or self.jobs.over

    def fail(self, error: BaseException) -> None:
        """Ends the run; the first error is the one that is raised."""
        with self.lock:
            self.error = self.error or error
            self.stop()

    def stop(self) -> None:
        """Makes every thread cancel its own jobs and end."""
        self.stopping.set()
        with self.lock:
            self.lock.notify_all()

    def close(self) -> None:
        """From now on nothing is written or told: a thread that is stuck may return any time."""
        with self.lock:
            self.closed = True

    def tell(self, event: events.AnyEvent) -> None:
        """Passes on an event, one at a time."""
        with self.lock:
            if self._on_event is not None and not self.closed:
                self._on_event(event)

    def step(self, server: str, value: int, total: int) -> None:
        """Passes on that `value` of `total` steps of a server's running job are done."""
        with self.lock:
            if self._on_step is not None and not self.closed:
                self._on_step(server, value, total)

    def tell_posted(self, server: str, job: Job, *, found: bool) -> None:
        """Tells that a job is on a server; `found` if it was already there."""
        self.tell(
            events.JobPosted(
                server=server,
                prompt_id=self.work.prompt_id(job),
                batch_index=job.batch_index,
                indices=job.indices,
                attempt=job.attempt,
                found=found,
            )
        )

    def tell_moved(self, server: str, job: Job) -> None:
        """Tells that a job is no longer expected from a server."""
        self.tell(
            events.JobMoved(
                server=server, prompt_id=self.work.prompt_id(job), batch_index=job.batch_index
            )
        )

    def tell_outcome(self, server: str, job: Job, outcome: Outcome, problem: str) -> None:
        """Tells what became of the images that a job did not bring, and why.

        Ends the run if nothing works at all.
        """
        if outcome.again:
            log.info("batch %d on %s: %s; trying again", job.batch_index, server, problem)
            self.tell(
                events.JobRetried(
                    server=server,
                    batch_index=job.batch_index,
                    indices=outcome.again,
                    failures=outcome.failures,
                    reason=problem,
                )
            )
        if not outcome.failed:
            return
        log.warning("batch %d failed for good: %s", job.batch_index, problem)
        for index in outcome.failed:
            self.tell(events.ImageFailed(index=index, label=self.work.label(index), reason=problem))
        if self.jobs.hopeless:
            tries, count = self.jobs.tries, self.jobs.jobs_failed
            self.fail(JobFailed(f"the first {count} jobs all failed {tries} times: {problem}"))

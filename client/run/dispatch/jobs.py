"""Which job is where: a state machine without I/O, threads or clocks. Not thread-safe by itself.

    jobs = Jobs(iter([Job(0, (0, 1)), Job(1, (2, 3))]))
    jobs.join("a")
    job = jobs.take("a")            # the first job, now on server a
    jobs.deliver(job, 0)            # True: the first delivery of image 0; later ones are refused
    jobs.leave("a")                 # server a is lost: its jobs wait for the next free server
    jobs.over                       # whether every image is delivered or has failed

At any time an image is exactly one of: not drawn yet, wanted, delivered, failed. A batch with
wanted images has exactly one owner: it waits, or it is on one server. A lost server may still hold
a copy of a job (`left_on`); if it delivers after all, the first delivery of an image counts, no
matter which server makes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

# Attempts at a job that earlier clients left on a server are not counted as failures, up to here.
MOST_FOUND = 20
# If this many jobs fail for good before the first image arrives, the rest would fail the same way.
HOPELESS_JOBS = 3


@dataclass(frozen=True)
class Job:
    """The images `indices` of one batch, made by one prompt.

    `attempt` numbers the prompt ids. `failures` counts how often it ran without bringing its
    images, `losses` how often a server was lost while this was its oldest job, the one that may
    have brought it down. `posted` is False for a job that was found on the server: what an earlier
    client left behind does not count as a failure, up to MOST_FOUND attempts.
    """

    batch_index: int
    indices: tuple[int, ...]
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    posted: bool = False
    failed_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What became of a finished job: images to try `again`, and images that `failed` for good."""

    again: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    failures: int = 0


class Jobs:
    """The jobs of one run, which `todo` yields in order and only when a server has room.

    A job may fail `tries` times; it may be lost with its server twice as often.
    """

    def __init__(self, todo: Iterator[Job], *, tries: int = 3) -> None:
        self._todo = todo
        self.tries = tries
        self._waiting: deque[Job] = deque()
        # server -> batch index -> job, in the order in which the jobs were taken
        self._on: dict[str, dict[int, Job]] = {}
        self._left: dict[str, dict[int, Job]] = {}
        self._wanted: dict[int, set[int]] = {}  # of the batches that are drawn and not finished
        self._reserved: dict[int, str] = {}
        self._exhausted = False
        self.delivered = 0
        self.jobs_failed = 0

    @property
    def servers(self) -> frozenset[str]:
        """The servers that get jobs now."""
        return frozenset(self._on)

    @property
    def over(self) -> bool:
        """Whether every image is delivered or has failed."""
        return not self._wanted and self._next_waiting() is None

    @property
    def hopeless(self) -> bool:
        """Whether several jobs failed for good before a single image arrived."""
        return self.jobs_failed >= HOPELESS_JOBS and not self.delivered

    def join(self, server: str) -> None:
        """Lets the server take jobs, for the first time or again."""
        self._on.setdefault(server, {})

    def leave(self, server: str, *, blame: bool = True) -> tuple[list[Job], Outcome]:
        """The server is lost for now: its jobs wait again, in order.

        Returns these jobs, and the outcome of the oldest. That one may have brought the server
        down: with `blame` the loss counts against it, and after too many losses it fails for good.
        """
        jobs = list(self._on.pop(server, {}).values())
        self._left.setdefault(server, {}).update({job.batch_index: job for job in jobs})
        self._reserved = {
            batch: owner for batch, owner in self._reserved.items() if owner != server
        }
        failed: tuple[int, ...] = ()
        if jobs and blame:
            jobs[0] = replace(jobs[0], losses=jobs[0].losses + 1)
            if jobs[0].losses >= 2 * self.tries:
                failed = self._give_up(jobs[0])
        self._waiting.extendleft(
            reversed([replace(job, posted=False) for job in jobs if self.wanted(job)])
        )
        return jobs, Outcome(failed=failed)

    def take(self, server: str) -> Job | None:
        """Gives the next job to this server; None if there is none for it now."""
        for position, job in enumerate(self._candidates()):
            if self._may_take(server, job):
                del self._waiting[position]
                self._put(server, job)
                return job
        return None

    def has_work_for(self, server: str) -> bool:
        """Whether `take` would give this server a job."""
        return any(self._may_take(server, job) for job in self._candidates())

    def reserve(self, server: str, batches: Collection[int]) -> None:
        """Keeps for a server the batches that an earlier client left on it.

        A reservation ends when the server is lost or the batch fails there.
        """
        self._reserved |= {batch: server for batch in batches if batch not in self._reserved}

    def ahead(self, count: int) -> list[Job]:
        """The next jobs to be taken, at most `count`."""
        while len(self._waiting) < count and self._draw():
            pass
        return list(self._waiting)[:count]

    def on(self, server: str) -> list[Job]:
        """The jobs on this server, oldest first."""
        return list(self._on.get(server, {}).values())

    def left_on(self, server: str) -> list[Job]:
        """The jobs that this server had when it was lost, and may still have."""
        return list(self._left.get(server, {}).values())

    def settle(self, server: str, job: Job) -> None:
        """The copy of a job that was left on a lost server has been dealt with."""
        self._left.get(server, {}).pop(job.batch_index, None)

    def reclaim(self, server: str, job: Job) -> bool:
        """Gives a job back to a server that returned with it, unless another server took it.

        The server did not go down because of it, so the loss is not counted.
        """
        for position, each in enumerate(self._waiting):
            if each.batch_index == job.batch_index and each.attempt == job.attempt:
                del self._waiting[position]
                self._put(server, replace(each, posted=job.posted, losses=job.losses))
                return True
        return False

    def posted(self, server: str, job: Job) -> Job:
        """We put the job on the server ourselves, so it counts as ours from now on."""
        return self._put(server, replace(job, posted=True))

    def renumber(self, server: str, job: Job) -> Job:
        """An earlier client's attempt at the job failed: ours starts over with the next number."""
        return self._put(server, replace(job, attempt=job.attempt + 1, posted=False))

    def wanted(self, job: Job) -> frozenset[int]:
        """The job's images that are neither delivered nor failed."""
        return frozenset(self._wanted.get(job.batch_index, ())) & frozenset(job.indices)

    def deliver(self, job: Job, index: int) -> bool:
        """Notes that an image arrived. Returns False, and changes nothing, if it is not wanted."""
        wanted = self._wanted.get(job.batch_index, set())
        if index not in wanted:
            return False
        wanted.remove(index)
        self.delivered += 1
        if not wanted:
            del self._wanted[job.batch_index]
        return True

    def finish(self, server: str, job: Job) -> Outcome:
        """The job is finished on this server. Missing images are tried again or fail for good.

        Images that are tried again go to another server first, if there is one.
        """
        owned = self._on.get(server, {}).pop(job.batch_index, None)
        rest = tuple(sorted(self.wanted(job)))
        if owned is None or not rest:
            return Outcome()
        blamed = job.posted or job.attempt >= MOST_FOUND
        failures = job.failures + blamed
        if failures >= self.tries:
            return Outcome(failed=self._give_up(job), failures=failures)
        failed_on = job.failed_on | {server} if blamed else job.failed_on
        again = Job(
            job.batch_index, rest, job.attempt + 1, failures, job.losses, failed_on=failed_on
        )
        self._wait_again(again)
        return Outcome(again=rest, failures=failures)

    def forget(self, server: str, job: Job) -> Outcome:
        """The server no longer knows the job: it restarted, or somebody deleted the job."""
        mine = self._on.get(server, {})
        oldest = next(iter(mine), None) == job.batch_index
        if mine.pop(job.batch_index, None) is None or not self.wanted(job):
            return Outcome()
        lost = replace(job, losses=job.losses + oldest, posted=False)
        if lost.losses >= 2 * self.tries:
            return Outcome(failed=self._give_up(job))
        self._wait_again(lost)
        return Outcome(again=job.indices)

    def _wait_again(self, job: Job) -> None:
        """The job is the next for whoever is free; a reservation ends with its first failure, or
        a job that may not go back to its server would wait for ever."""
        self._reserved.pop(job.batch_index, None)
        self._waiting.appendleft(job)

    def _put(self, server: str, job: Job) -> Job:
        self._on[server][job.batch_index] = job
        return job

    def _give_up(self, job: Job) -> tuple[int, ...]:
        rest = tuple(sorted(self._wanted.pop(job.batch_index, ())))
        self.jobs_failed += bool(rest)
        return rest

    def _candidates(self) -> Iterator[Job]:
        """The waiting jobs, then the new ones, which are drawn one by one and only when needed."""
        self._drop_done()
        position = 0
        while position < len(self._waiting) or self._draw():
            yield self._waiting[position]
            position += 1

    def _next_waiting(self) -> Job | None:
        return next(self._candidates(), None)

    def _drop_done(self) -> None:
        """Drops waiting jobs whose images were delivered late by another server."""
        if any(not self.wanted(job) for job in self._waiting):
            self._waiting = deque(job for job in self._waiting if self.wanted(job))

    def _draw(self) -> bool:
        """Moves the next batch from `todo` to the waiting jobs."""
        job = None if self._exhausted else next(self._todo, None)
        if job is None:
            self._exhausted = True
            return False
        self._wanted[job.batch_index] = set(job.indices)
        self._waiting.append(job)
        return True

    def _may_take(self, server: str, job: Job) -> bool:
        """Whether a server may take a job.

        A reserved job goes to the server that has it, unless it has failed there. A failed job
        returns to the same server only if it has failed on all of them.
        """
        owner = self._reserved.get(job.batch_index, server)
        if owner != server and owner not in job.failed_on:
            return False
        return server not in job.failed_on or set(self._on) <= job.failed_on

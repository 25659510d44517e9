"""One server's thread: keeps it busy, collects its images, and backs off while it is lost."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TypeAlias

from comfy_nodes.labelset import ImageRecord

from ...errors import (
    ServerError,
    ServerHung,
    ServerRefused,
    ServerUnreachable,
    TransferError,
    WorkflowError,
)
from ...server.fleet import Seat
from ...server.protocol import SUCCESS, Event, JobResult, Progress, QueueState
from ...server.server import ComfyServer
from .. import events
from .collect import Collector, take_away
from .jobs import MOST_FOUND, Job
from .run_state import SharedState

log = logging.getLogger(__name__)

# After so many failed jobs in a row, while other servers work, the server is to blame.
FAILING_AFTER = 3
# After so many odd answers, a server that never delivered an image is not used any more.
STRIKES = 3
# HTTP statuses of refusals that waiting does not fix.
_FINAL = (0, 301, 302, 303, 307, 308, 400, 401, 403)
Trouble: TypeAlias = ServerError | WorkflowError


class Worker(threading.Thread):
    """The thread of one server. It ends with the run, or when the server is of no more use.

    `server` is the handle if the server has already been checked, else `error` says why not.
    """

    def __init__(
        self,
        seat: Seat,
        shared: SharedState,
        server: ComfyServer | None,
        error: Trouble | None,
        *,
        depth: int,
    ) -> None:
        super().__init__(name=f"server {seat.name}", daemon=True)
        self.error = error  # the last one
        self.state = ""
        self._seat = seat
        self._shared = shared
        self._server = server
        self._depth = depth
        self._collector = Collector(seat.output_directory)
        self._checked = server is not None
        self._pause_s = shared.patience.probe_s
        self._failed_in_a_row = 0
        self._strikes = 0
        self._proven = False  # whether it ever delivered an image
        self._hung_queue: QueueState | None = None
        self._retired = False
        self._lost: ServerHung | None = None  # why the jobs were taken from it, until it notices

    @property
    def name_of_server(self) -> str:
        """The server's name."""
        return self._seat.name

    def retire(self, retired: bool) -> None:
        """Another thread says whether the server gets no more jobs; those on it are collected."""
        self._retired = retired

    @property
    def silence_s(self) -> float:
        """For how many seconds the request under way has made no headway; 0 between requests."""
        since = None if self._server is None else self._server.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def lose_jobs(self) -> None:
        """Another thread takes the jobs away, under the lock: this one waits for its server."""
        self._lost = ServerHung(
            f"{self._comfy.url} has kept a request waiting for {self.silence_s:.0f} s; restart it"
        )
        self.error = self._lost
        self._leave(self._lost, events.HUNG)

    def _keep_place(self) -> None:
        """Under the lock, before this server's jobs are touched: raises if they were taken away."""
        if self._lost is not None:
            raise self._lost

    def run(self) -> None:
        """The thread itself."""
        try:
            if self._server is None and self.error is not None:
                self._step_back(self.error)
            while self.state != events.OUT and not self._shared.ended:
                if self._retired:
                    self._step_out()
                    break
                try:
                    self._join_in()
                    self._serve()
                except (ServerError, WorkflowError) as error:
                    as_shown(error, self._server)
                    self._step_back(error)
            self._say_goodbye()
        except BaseException as error:  # a callback's too: it ends the run, and the caller sees it
            self._shared.fail(error)
            self._say_goodbye()
        finally:
            if self._server is not None and not self._seat.stays_open:
                self._server.close()
            with self._shared.lock:
                self._shared.lock.notify_all()

    # Joining and backing off

    def _join_in(self) -> None:
        """Checks that the server can do the work, and gives it jobs from now on."""
        if self._server is None:
            self._server = self._seat.source.open()
        if not self._checked:
            self._shared.work.check(self._server.object_info())
        if self._hung_queue is not None and _same_work(self._hung_queue, self._server.queue()):
            raise ServerHung(
                f"{self._server.url} answers, but its queue still does not move; restart it"
            )
        self._checked, self._hung_queue = True, None
        with self._shared.lock:
            self._lost = None
            self._shared.jobs.join(self._seat.name)
            self.state = events.UP
            self._shared.tell(events.ServerUp(server=self._seat.name, url=self._server.url))
        self._deal_with_what_was_left()

    def _deal_with_what_was_left(self) -> None:
        """Deals with the jobs that this server had when it was lost.

        They are taken back, or collected, or cancelled where other servers have them.
        """
        server, jobs = self._comfy, self._shared.jobs
        with self._shared.lock:
            left = jobs.left_on(self._seat.name)
        for job in left:
            prompt_id = self._shared.work.prompt_id(job)
            found = server.find(prompt_id)
            with self._shared.lock:
                back = bool(found) and jobs.reclaim(self._seat.name, job)
                if back:
                    self._shared.tell_posted(self._seat.name, job, found=True)
            if not back and isinstance(found, JobResult) and found.outcome == SUCCESS:
                self._collect(job, found)
            elif not back and found is True:
                server.cancel([prompt_id])
            with self._shared.lock:
                jobs.settle(self._seat.name, job)

    def _step_back(self, error: Trouble) -> None:
        """The server gets no jobs for now, and the ones it had go to the next free server."""
        self.error, self._checked = error, False
        state = self._state_after(error)
        if state == events.HUNG and self.state == events.UP:
            self._remember_queue()
        with self._shared.lock:
            self._lost = None
            self._leave(error, state)
        if state != events.OUT:
            self._rest(error)

    def _step_out(self) -> None:
        """The server was retired, and nothing that it has is still wanted from it."""
        self.error = ServerUnreachable(f"server {self._seat.name} was taken out of the list")
        with self._shared.lock:
            self._leave(self.error, events.OUT)

    def _leave(self, error: Trouble, state: str) -> None:
        """Under the lock: the jobs of this server wait for the next free one."""
        moved, outcome = self._shared.jobs.leave(
            self._seat.name, blame=isinstance(error, ServerUnreachable)
        )
        self._tell_state(state, str(error))
        for job in moved:
            self._shared.tell_moved(self._seat.name, job)
        if outcome.failed:
            reason = f"the server was lost every time it ran; last: {error}"
            self._shared.tell_outcome(self._seat.name, moved[0], outcome, reason)
        self._shared.lock.notify_all()

    def _state_after(self, error: Trouble) -> str:
        if isinstance(error, _Failing):
            return events.FAILING
        if isinstance(error, ServerHung):
            return events.HUNG
        if isinstance(error, WorkflowError) or (
            isinstance(error, ServerRefused) and error.status in _FINAL
        ):
            return events.OUT
        self._strikes += not isinstance(error, ServerUnreachable)
        return events.OUT if self._strikes >= STRIKES and not self._proven else events.DOWN

    def _tell_state(self, state: str, reason: str) -> None:
        if state != self.state and not self._shared.closed:
            log.warning("server %s is %s: %s", self._seat.name, state, reason)
            self._shared.tell(events.ServerDown(server=self._seat.name, state=state, reason=reason))
        self.state = state

    def _remember_queue(self) -> None:
        try:
            self._hung_queue = self._comfy.queue()
        except ServerError as error:
            log.debug("%s", error)

    def _rest(self, error: Trouble) -> None:
        """Waits, longer each time, and opens the server again, restarting it where possible."""
        patience = self._shared.patience
        self._shared.stopping.wait(
            patience.probe_most_s if isinstance(error, _Failing) else self._pause_s
        )
        self._pause_s = min(2 * self._pause_s, patience.probe_most_s)
        if self._shared.ended or not isinstance(error, ServerUnreachable) or self._server is None:
            return
        old = self._server
        try:
            self._server = self._seat.source.replace(error)
        except ServerUnreachable as final:
            self.error = final
            self._tell_state(events.OUT, str(final))
            return
        if old is not self._server and not self._seat.stays_open:
            old.close()

    # Serving

    @property
    def _comfy(self) -> ComfyServer:
        assert self._server is not None
        return self._server

    def _serve(self) -> None:
        """Posts jobs to the server and collects from it, until there is nothing left to do."""
        while not self._shared.ended:
            if not self._retired:
                self._fill()
            flying = self._flying()
            if self._retired and not flying:
                return
            if not flying:
                with self._shared.lock:
                    if not self._shared.ended and not self._shared.jobs.has_work_for(
                        self._seat.name
                    ):
                        self._shared.lock.wait(0.25)
                continue
            finished = self._comfy.wait(list(flying), on_event=self._hear, until=self._is_needed)
            if finished is not None:
                self._take(flying[finished.prompt_id], finished.result)

    def _flying(self) -> dict[str, Job]:
        with self._shared.lock:
            return {
                self._shared.work.prompt_id(job): job
                for job in self._shared.jobs.on(self._seat.name)
            }

    def _is_needed(self) -> bool:
        """Whether waiting should stop: the run is over, or another server's jobs became free."""
        with self._shared.lock:
            jobs = self._shared.jobs
            room = len(jobs.on(self._seat.name)) < self._depth
            free = room and not self._retired
            return self._shared.ended or (free and jobs.has_work_for(self._seat.name))

    def _fill(self, *, busy: int = 0) -> None:
        """Keeps `depth` jobs on the server; `busy` of those listed as its own are already over."""
        while not self._shared.stopping.is_set():
            with self._shared.lock:
                self._keep_place()
                room = len(self._shared.jobs.on(self._seat.name)) - busy < self._depth
                job = self._shared.jobs.take(self._seat.name) if room else None
            if job is None:
                return
            self._launch(job)

    def _launch(self, job: Job) -> None:
        """Posts a job, unless the server has it: from an earlier client, or an answer was lost."""
        work, jobs = self._shared.work, self._shared.jobs
        while True:
            prompt_id = work.prompt_id(job)
            found = self._comfy.find(prompt_id)
            if not isinstance(found, JobResult) or found.outcome == SUCCESS:
                break
            if job.attempt >= MOST_FOUND:
                raise ServerRefused(
                    f"{self._comfy.url} says that every job failed before it was sent"
                )
            with self._shared.lock:  # an earlier client's failure; ours starts over
                self._keep_place()
                job = jobs.renumber(self._seat.name, job)
        if found is False:
            self._comfy.submit(work.graph(job), prompt_id=prompt_id)
        with self._shared.lock:
            self._keep_place()
            if found is False:
                job = jobs.posted(self._seat.name, job)
            self._shared.tell_posted(self._seat.name, job, found=found is not False)

    def _take(self, job: Job, result: JobResult | None) -> None:
        if not self._retired:
            self._fill(busy=1)  # first the next job, so that the server works while we collect
        if result is None:
            self._forgotten(job)
        elif result.outcome != SUCCESS:
            self._over(job, result.reason, images=0)
        else:
            images, problem = self._collect(job, result)
            self._over(job, problem, images=images)

    def _collect(self, job: Job, result: JobResult) -> tuple[int, str]:
        """Saves a job's images that are still wanted; returns (how many, the first problem)."""
        entries, problem, images = self._shared.work.entries(result), "", 0
        for index in job.indices:
            with self._shared.lock:
                if index not in self._shared.jobs.wanted(job):
                    continue
            try:
                if index not in entries:
                    raise TransferError(f"the server returned no image for row {index}")
                record, location = entries[index]
                data, path = self._collector.fetch(self._comfy, record, location)
            except TransferError as error:
                problem = problem or self._comfy.shown(str(error))
                continue
            if self._save(job, self._recorded(record), data):
                images += 1
                if path is not None:
                    take_away(path)
        return images, problem

    def _recorded(self, record: ImageRecord) -> ImageRecord:
        """The record as it is written down; its settings are whatever the server says."""
        settings = self._comfy.hide_in(record.settings)
        return record if settings == record.settings else replace(record, settings=settings)

    def _save(self, job: Job, record: ImageRecord, data: bytes) -> bool:
        """Saves an image into the folder, unless another thread has done so in the meantime."""
        with self._shared.lock:
            if self._shared.closed or record.index not in self._shared.jobs.wanted(job):
                return False
            self._shared.work.save(record, data)
            self._shared.jobs.deliver(job, record.index)
            self._pause_s, self._proven = self._shared.patience.probe_s, True
            self._shared.tell(
                events.ImageSaved(
                    server=self._seat.name,
                    index=record.index,
                    label=record.label,
                    file_name=record.file_name,
                )
            )
            return True

    def _over(self, job: Job, problem: str, *, images: int) -> None:
        """The job is over; the images that are missing are tried again or have failed."""
        with self._shared.lock:
            self._keep_place()
            outcome = self._shared.jobs.finish(self._seat.name, job)
            prompt_id = self._shared.work.prompt_id(job)
            self._shared.tell(
                events.JobFinished(
                    server=self._seat.name,
                    prompt_id=prompt_id,
                    batch_index=job.batch_index,
                    images=images,
                )
            )
            self._shared.tell_outcome(self._seat.name, job, outcome, problem)
            self._shared.lock.notify_all()
            others = self._shared.jobs.servers - {self._seat.name}
        self._failed_in_a_row = self._failed_in_a_row + 1 if problem and job.posted else 0
        if self._failed_in_a_row >= FAILING_AFTER and others:
            self._failed_in_a_row -= 1  # once it is back, one more failure is enough
            raise _Failing(f"{FAILING_AFTER} jobs in a row failed: {problem}")

    def _forgotten(self, job: Job) -> None:
        problem = "the server lost the job: it restarted, or somebody deleted it"
        with self._shared.lock:
            self._keep_place()
            outcome = self._shared.jobs.forget(self._seat.name, job)
            self._shared.tell_outcome(self._seat.name, job, outcome, problem)
            self._shared.lock.notify_all()

    def _say_goodbye(self) -> None:
        """Takes our own jobs off the server, as far as it can still be reached."""
        if self._server is None or self.state == events.DOWN:
            return
        with self._shared.lock:
            jobs = {
                *self._shared.jobs.on(self._seat.name),
                *self._shared.jobs.left_on(self._seat.name),
            }
            prompt_ids = [self._shared.work.prompt_id(job) for job in jobs]
        try:
            self._server.cancel(prompt_ids)
        except ServerError as error:
            log.debug("could not cancel: %s", error)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress) and event.prompt_id in self._flying():
            self._shared.step(self._seat.name, event.value, event.total)


def as_shown(error: Trouble, server: ComfyServer | None) -> None:
    """Changes the message of an error that quotes a server: no secrets, no control characters."""
    if server is not None:
        error.args = (server.shown(str(error)), *error.args[1:])


class _Failing(ServerError):
    """One job after another fails on this server, while there are others."""


def _same_work(before: QueueState, now: QueueState) -> bool:
    """Whether a hung server is still on the same jobs, no matter what queued up behind them."""
    return now.running == before.running and bool(now.running or now.pending)

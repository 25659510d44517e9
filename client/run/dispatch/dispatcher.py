"""Many servers, one run: keeps every server busy and moves work off lost ones; a thread per server.

    with Dispatcher(["http://10.0.0.5:8188", ServerSpec("http://10.0.0.6:8188", weight=2)]) as it:
        it.connect(work.check)
        it.run(work)

`run_plan` does this for a plan and its folder. jobs.py decides which job is where, without threads;
worker.py is the thread of one server. Only prompts that this run posted are ever cancelled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

from ...errors import ClientError, ServerError, ServerUnreachable, WorkflowError
from ...server.fleet import AnyServer, Patience, Seat, ServersFile, seats_of
from ...server.protocol import JobResult
from ...server.server import ComfyServer, describe_server
from .. import events
from .jobs import Jobs
from .run_state import SharedState, Work
from .worker import Trouble, Worker, as_shown

log = logging.getLogger(__name__)

Check: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], None]

DEPTH = 2  # jobs on a server of weight 1: one runs, one waits
GOODBYE_S = 10.0  # the longest wait for threads to cancel their jobs and end
_LOST_GOODBYE_S = 1.0  # the same for lost servers, on which nothing can be cancelled


@dataclass(frozen=True)
class _Connected:
    """The result of asking a server: a handle and its description, or what went wrong."""

    seat: Seat
    server: ComfyServer | None = None
    description: Mapping[str, Any] | None = None
    error: Trouble | None = None


class Dispatcher:
    """Gives the jobs of one run to one or more servers. A context manager; good for one `run`.

    Args:
        servers: addresses, ServerSpec, ComfyServer handles or sources such as EmbeddedServer; one
            or a list of them.
        tries: how often a job may fail before its images have failed for good.
        depth: jobs at a time on a server of weight 1.
        patience: how long to wait for what.
        on_event: called with every event, one at a time, on the thread on which it happened. What
            it raises ends the run.
        listed: a servers file, whose servers may change during the run: new ones join, and those
            that are taken out finish their jobs and get no more. They are given in `servers` too.
        on_step: called with (server name, value, total) when a server's running job moves.

    Raises:
        ClientError: no server, an invalid address, or the same server twice.
    """

    def __init__(
        self,
        servers: AnyServer | Sequence[AnyServer],
        *,
        tries: int = 3,
        depth: int = DEPTH,
        patience: Patience | None = None,
        listed: ServersFile | None = None,
        on_event: Callable[[events.AnyEvent], None] | None = None,
        on_step: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._seats = seats_of(servers, patience=self._patience)
        self._tries = tries
        self._depth = depth
        self._listed = listed
        self._on_event = on_event
        self._on_step = on_step
        self._connected: list[_Connected] = []
        self._from_list = {spec.name for spec in listed.specs} if listed is not None else set()

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The servers' names, in the order given."""
        return tuple(seat.name for seat in self._seats)

    def close(self) -> None:
        """Closes the handles that the dispatcher opened."""
        for each in self._connected:
            if each.server is not None and not each.seat.stays_open:
                each.server.close()

    def connect(self, check: Check) -> list[dict[str, Any]]:
        """Asks all servers at once, and describes those that can do the work.

        A server that does not answer now is tried again during the run; one that cannot do the
        work is left out, with a warning.

        Args:
            check: raises WorkflowError if a server with this /object_info and /system_stats cannot
                do the work.

        Raises:
            ServerUnreachable, ServerRefused, WorkflowError: no server can; the first one's error,
                where an answer counts before silence.
        """
        if len(self._seats) == 1:
            self._connected = [_connect(self._seats[0], check)]
        else:
            with ThreadPoolExecutor(len(self._seats)) as pool:
                self._connected = list(pool.map(lambda seat: _connect(seat, check), self._seats))
        found = [dict(each.description) for each in self._connected if each.description is not None]
        if not found:
            errors = [each.error for each in self._connected if each.error is not None]
            raise next(
                (error for error in errors if not isinstance(error, ServerUnreachable)), errors[0]
            )
        return found

    def run(self, work: Work, *, resumed: bool = False) -> None:
        """Does the work, after `connect`.

        `resumed`: an earlier client may have left jobs on the servers.

        Raises:
            ServerUnreachable: no server was usable for `patience.give_up_s`, or none ever will be.
            ServerRefused, WorkflowError: the last remaining server cannot do the work.
            JobFailed: one job after another failed, and not one image arrived.
            KeyboardInterrupt, and whatever `work.save` or a callback raises: own jobs are cancelled
                first.
        """
        jobs = Jobs(work.missing_jobs(), tries=self._tries)
        shared = SharedState(
            work, jobs, patience=self._patience, on_event=self._on_event, on_step=self._on_step
        )
        if resumed and len(self._seats) > 1:
            self._reserve(shared)
        workers = [self._worker(each, shared) for each in self._connected]
        try:
            for worker in workers:
                worker.start()
            _watch(shared, workers, lambda: self._follow_list(shared, workers))
        except BaseException as error:
            shared.fail(error)
            log.warning("stopping: cancelling own jobs; press Ctrl-C again to quit at once")
        try:
            shared.stop()
            _wait_for(workers, self._patience)
        finally:
            shared.close()
        if shared.error is not None:
            raise shared.error

    def _worker(self, of: _Connected, shared: SharedState) -> Worker:
        depth = max(1, round(self._depth * of.seat.weight))
        return Worker(of.seat, shared, of.server, of.error, depth=depth)

    def _follow_list(self, shared: SharedState, workers: list[Worker]) -> None:
        """Starts a worker for a server that has joined the list; those taken out retire."""
        specs = self._listed.changed() if self._listed is not None else None
        if specs is None:
            return
        try:
            seats = {seat.name: seat for seat in seats_of(specs, patience=self._patience)}
        except ClientError as error:
            log.warning("warning: %s; the servers stay as they are", error)
            return
        for worker in workers:
            if worker.name_of_server in self._from_list:
                worker.retire(worker.name_of_server not in seats)
        present = {worker.name_of_server for worker in workers if worker.is_alive()}
        for name in seats.keys() - present:
            log.info("server %s joins: the servers file lists it now", name)
            workers.append(self._worker(_Connected(seats[name]), shared))
            workers[-1].start()
        self._from_list = set(seats)

    def _reserve(self, shared: SharedState) -> None:
        """What an earlier client left on a server stays with that server, and is not made twice."""
        present = [each for each in self._connected if each.server is not None]
        ahead = shared.jobs.ahead(2 * self._depth * len(present))
        for each in present:
            assert each.server is not None
            try:
                queue = each.server.queue()
                here = [
                    job.batch_index
                    for job, prompt_id in ((job, shared.work.prompt_id(job)) for job in ahead)
                    if prompt_id in queue or isinstance(each.server.history(prompt_id), JobResult)
                ]
            except ServerError as error:
                log.debug("%s", error)
                continue
            shared.jobs.reserve(each.seat.name, here)


def _connect(seat: Seat, check: Check) -> _Connected:
    server = None
    try:
        server = seat.source.open()
        object_info, stats = server.object_info(), server.system_stats()
        check(object_info, server.shown(stats))
        described = server.shown(describe_server(stats, object_info))
        description = {"name": seat.name, "url": server.url, **described}
        return _Connected(seat, server, description)
    except (ServerError, WorkflowError) as error:
        as_shown(error, server)
        if server is not None and not seat.stays_open:
            server.close()
        return _Connected(seat, error=error)


def _watch(shared: SharedState, workers: Sequence[Worker], follow_list: Callable[[], None]) -> None:
    """Waits until the run has ended, all servers are out, or none was usable for too long."""
    last_up = time.monotonic()
    while not shared.ended and any(worker.is_alive() for worker in workers):
        follow_list()
        with shared.lock:
            shared.lock.wait(0.1)
            _relieve_silent(shared.patience.silent_s, workers)
            if any(worker.state == events.UP for worker in workers):
                last_up = time.monotonic()
        if time.monotonic() - last_up > shared.patience.give_up_s:
            break
    if not shared.ended:
        shared.fail(_last_error(workers))


def _relieve_silent(silent_s: float, workers: Sequence[Worker]) -> None:
    """Takes the jobs of servers that hold a request up, where another server can make them."""
    up = [worker for worker in workers if worker.state == events.UP]
    silent = [worker for worker in up if worker.silence_s > silent_s]
    for worker in silent if len(silent) < len(up) else ():
        worker.lose_jobs()


def _last_error(workers: Sequence[Worker]) -> BaseException:
    """The error to raise when no server is left: a refusal says more than silence."""
    errors = [worker.error for worker in workers if worker.error is not None]
    silent = [error for error in errors if isinstance(error, ServerUnreachable)]
    return next(
        (error for error in errors if error not in silent),
        silent[0] if silent else RuntimeError("no thread"),
    )


def _wait_for(workers: Sequence[Worker], patience: Patience) -> None:
    """Waits for the threads, but not for one that is stuck in a request."""
    begun = time.monotonic()
    for worker in workers:
        answers = worker.silence_s <= patience.silent_s
        reachable = answers and worker.state in (events.UP, events.HUNG)
        most_s = GOODBYE_S if reachable else _LOST_GOODBYE_S
        worker.join(max(0.0, begun + most_s - time.monotonic()))

"""A plan becomes a labelled folder: plan -> jobs -> checked images. Running again completes it.

    run_plan(workflow, "http://127.0.0.1:8188", "data/synthetic")
    run_plan(workflow, ["http://10.0.0.5:8188", "http://10.0.0.6:8188"], "data/synthetic")

One batch is one queued prompt. An image is written atomically, once its record and its bytes are
known to be those of the planned row. Whatever happens to client, servers and network: after running
again, the folder holds every planned image exactly once.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import folder_names
from comfy_nodes.labelset.quality.verdicts import quarantine_folder

from ..errors import JobFailed, RunIncomplete, ServerUnreachable
from ..folder.run_folder import RunFolder
from ..server.fleet import AnyServer, Patience, ServersFile
from ..workflow.graph import Workflow
from . import events
from .cluster.crew import Crew
from .cluster.ray_cluster import RayCluster
from .dispatch.dispatcher import DEPTH, Dispatcher
from .plan_jobs import PlanWork
from .throughput import ServerThroughput, Throughput

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunProgress:
    """The state of a run: `done` of `total` images are in the folder, `made` of them in this run.

    `failed` images were given up. `classes` maps class -> images in the folder, a live view, and
    `planned` class -> planned images. `eta_s` is None while the speed is unknown.
    """

    done: int
    total: int
    made: int
    note: str = ""
    failed: int = 0
    images_per_s: float = 0.0
    eta_s: float | None = None
    servers: tuple[ServerThroughput, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: `made` images are new and took `seconds`; `existing` were there before.

    `used_up` are the rows that a check has rejected as often as they may be made again; the folder
    has no image of them.
    """

    folder: Path
    total: int
    made: int
    existing: int
    seconds: float
    servers: tuple[ServerThroughput, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    used_up: tuple[int, ...] = ()


def run_plan(
    workflow: Workflow,
    servers: AnyServer | Sequence[AnyServer] | RayCluster,
    out: Path | str,
    *,
    on_progress: Callable[[RunProgress], None] | None = None,
    on_event: Callable[[events.AnyEvent], None] | None = None,
    tries: int = 3,
    queue_depth: int = DEPTH,
    patience: Patience | None = None,
    attempts: int | None = None,
    rows: range | None = None,
    listed: ServersFile | None = None,
) -> RunSummary:
    """Makes every image of the workflow's plan that the folder lacks, on one or more servers.

    Nothing is written before the workflow was checked on the servers. Finished images always stay.

    Args:
        servers: addresses, ServerSpec, ComfyServer handles or sources such as EmbeddedServer; one
            or a list of them; or a RayCluster.
        on_progress: called one at a time, but on the threads of the servers. What it raises ends
            the run.
        on_event: the same, for each event of the run.
        tries: how often a job may fail before its images have failed and the rest goes on.
        queue_depth: jobs at a time on a server of weight 1.
        patience: how long to wait for what.
        attempts: how often a row whose image a check rejected is made again; by default without a
            limit, each time with another seed.
        rows: the rows of the plan to make, by default all. The folder is that of the whole plan.
        listed: the file that lists some of the servers, to follow its changes during the run.

    Raises:
        PlanError, WorkflowError: the workflow makes no plan, or cannot run on any of the servers.
        FolderError, LabelsetError: the folder is not this run's, is in use, or cannot be written.
        ServerUnreachable, ServerRefused: no server answers, or none accepts the workflow.
        RunIncomplete: every server went away for good, or jobs failed `tries` times; running again
            completes the folder.
        KeyboardInterrupt: Ctrl-C; own jobs are cancelled first.
    """
    plan = workflow.plan()
    folder_names(plan.counts())
    folder = RunFolder(Path(out), workflow)
    folder.check()
    resumed = folder.exists
    with ExitStack() as stack:
        if resumed:
            stack.enter_context(folder.locked())
            folder.open()
        run = _Run(folder, rows, attempts=attempts, on_progress=on_progress, on_event=on_event)
        if resumed and run.is_done():
            return run.nothing_to_do()
        told: dict[str, Any] = {"patience": patience, "on_event": run.take, "on_step": run.step}
        dispatcher: Dispatcher | Crew
        if isinstance(servers, RayCluster):
            dispatcher = Crew(servers, tries=tries, **told)
        else:
            dispatcher = Dispatcher(servers, tries=tries, depth=queue_depth, listed=listed, **told)
        stack.enter_context(dispatcher)
        found = dispatcher.connect(run.work.check)
        if not resumed:
            stack.enter_context(folder.locked())
            folder.open()
        folder.describe(_description(found))
        return run.execute(dispatcher, resumed=resumed)


def _description(servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What generation.json says of the servers: the only one, or the first one and all of them."""
    first = {key: value for key, value in servers[0].items() if key != "name"}
    return first if len(servers) == 1 else {**first, "servers": list(servers)}


class _Run:
    """One run: its callbacks, and how it ends."""

    def __init__(
        self,
        folder: RunFolder,
        rows: range | None,
        *,
        attempts: int | None,
        on_progress: Callable[[RunProgress], None] | None,
        on_event: Callable[[events.AnyEvent], None] | None,
    ) -> None:
        self.work = PlanWork(folder, rows)
        self._used_up = tuple(
            index
            for index in folder.made_again()
            if attempts is not None and folder.attempt(index) > attempts and index in self.work.rows
        )
        self._plan = self.work.plan
        self._total = len(self.work.rows)
        self._folder = folder
        self._on_progress = on_progress
        self._on_event = on_event
        self._failed: dict[int, str] = {}
        self._begun = 0.0

    def is_done(self) -> bool:
        """Whether every image exists, except those that have been rejected too often."""
        return self.work.count() + len(self._used_up) == self._total

    def nothing_to_do(self) -> RunSummary:
        """The result of a run that makes nothing."""
        self._folder.labelled.write_card()
        classes, existing = self.work.planned_by_class(), self.work.count()
        classes.subtract(self.work.label(index) for index in self._used_up)
        return RunSummary(
            self._folder.root,
            self._total,
            0,
            existing,
            0.0,
            classes=dict(classes),
            used_up=self._used_up,
        )

    def execute(self, dispatcher: Dispatcher | Crew, *, resumed: bool) -> RunSummary:
        """Runs until nothing is missing or nothing more can be done."""
        planned = self.work.planned_by_class()
        existing = Counter(planned)
        existing.subtract(self.work.missing_by_class())
        self._figures = Throughput(planned, existing)
        self._begun = time.monotonic()
        self.take(
            events.RunStarted(
                folder=str(self._folder.root),
                plan_id=self._plan.plan_id,
                total=self._total,
                existing=self._figures.existing,
                servers=dispatcher.names,
            )
        )
        try:
            self._tell_again()
            self._give_up_some()
            dispatcher.run(self.work, resumed=resumed)
            if len(self._failed) > len(self._used_up):
                self._list_failed()
                raise RunIncomplete(
                    f"{len(self._failed)} images could not be made (listed above). "
                    f"{self._standing()}"
                )
        except BaseException as error:
            raise self._ended_by(error) from error
        self._folder.labelled.write_card()
        if self._used_up:
            self._end(events.INCOMPLETE, f"{len(self._used_up)} images were rejected too often")
        else:
            self._end(events.COMPLETE, "")
        figures, seconds = self._figures, time.monotonic() - self._begun
        return RunSummary(
            self._folder.root,
            figures.total,
            figures.made,
            figures.existing,
            seconds,
            servers=figures.servers(time.time()),
            classes=dict(figures.done_by_class),
            used_up=self._used_up,
        )

    def _tell_again(self) -> None:
        again = len(self._folder.made_again()) - len(self._used_up)
        if again:
            log.info(
                "%d missing images were rejected by a check (%s): they are made with other seeds",
                again,
                quarantine_folder(self._folder.root),
            )

    def _give_up_some(self) -> None:
        """Images that cannot be made have failed already; the others are made."""
        for index, reason in self.work.give_up(self._used_up).items():
            label = self.work.label(index)
            self.take(events.ImageFailed(index=index, label=label, reason=reason))

    def _ended_by(self, error: BaseException) -> BaseException:
        """The error for the caller; finished images stay, and the card describes them."""
        with suppress(LabelsetError):  # what ended the run matters more
            self._folder.labelled.write_card()
        if isinstance(error, (ServerUnreachable, JobFailed)):
            error = RunIncomplete(f"{error}. {self._standing()}")
        if isinstance(error, KeyboardInterrupt):
            log.warning("interrupted. %s", self._standing())
            self._end(events.INTERRUPTED, "Ctrl-C")
        else:
            self._end(
                events.INCOMPLETE if isinstance(error, RunIncomplete) else events.FAILED, str(error)
            )
        return error

    def _end(self, outcome: str, reason: str) -> None:
        figures = self._figures
        self._tell(
            events.RunEnded(
                outcome=outcome,
                done=figures.done,
                made=figures.made,
                total=figures.total,
                failed=figures.failed,
                seconds=time.monotonic() - self._begun,
                reason=reason,
            )
        )

    def take(self, event: events.AnyEvent) -> None:
        """Takes in an event of the dispatcher, and passes it on."""
        self._figures.take(event)
        if isinstance(event, events.ImageFailed):
            self._failed[event.index] = event.reason
        self._tell(event)
        if isinstance(event, (events.RunStarted, events.ImageSaved, events.ImageFailed)):
            self._report("")
        elif isinstance(event, (events.ServerUp, events.ServerDown)):
            self._report(
                f"{event.server} is {'up' if isinstance(event, events.ServerUp) else event.state}"
            )

    def step(self, server: str, value: int, total: int) -> None:
        """A job moves."""
        self._report(f"step {value}/{total}")

    def _tell(self, event: events.AnyEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _report(self, note: str) -> None:
        if self._on_progress is None:
            return
        figures, now = self._figures, time.time()
        self._on_progress(
            RunProgress(
                done=figures.done,
                total=figures.total,
                made=figures.made,
                note=note,
                failed=figures.failed,
                images_per_s=figures.images_per_s(now),
                eta_s=figures.eta_s(now),
                servers=figures.servers(now),
                classes=figures.done_by_class,
                planned=figures.planned_by_class,
            )
        )

    def _list_failed(self) -> None:
        by_reason: dict[str, list[int]] = {}
        for index, reason in sorted(self._failed.items()):
            by_reason.setdefault(reason, []).append(index)
        for reason, indices in by_reason.items():
            rows = ", ".join(f"{index} ({self._plan.row(index).label})" for index in indices[:20])
            more = f" and {len(indices) - 20} more" if len(indices) > 20 else ""
            log.error("missing: row %s%s: %s", rows, more, reason)

    def _standing(self) -> str:
        done = self._figures.done
        return (
            f"{done} of {self._total} images are in {self._folder.root}; "
            "run the same command again to complete it"
        )

"""A plan becomes a labelled folder: plan -> jobs -> images that are checked one by one. Running again completes it.

    run_plan(workflow, "http://127.0.0.1:8188", Path("data/synthetic"))

One batch is one queued prompt, and at most `queue_depth` of them are on the server. A job's prompt id follows from what
it makes, so a client that was killed, or that never got an answer, finds its job instead of posting it twice. An image
counts only when its record and its bytes are those of the planned row; then it is written atomically.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, folder_names, image_file_names, read_record
from comfy_nodes.labelset import sha256 as sha256_of
from comfy_nodes.plan import GenerationPlan

from .errors import JobFailed, RunIncomplete, ServerRefused, ServerUnreachable, TransferError
from .folder import RunFolder
from .protocol import SUCCESS, Event, JobResult, Progress
from .server import ComfyServer, Finished, describe_server
from .validation import validate, warnings
from .workflow import SAVER, Workflow

log = logging.getLogger(__name__)

HOPELESS_JOBS = 3  # this many jobs given up before the first image: the rest would fail the same way
_NAMESPACE = uuid.UUID("6f3a3cf0-3c1e-5a5b-9d55-0c1b7f3b4a21")  # made up once; keeps our prompt ids apart from others'


class ServerSource(Protocol):
    """Where a run gets its server from, and another one when that is lost."""

    def open(self) -> ComfyServer:
        """The server. Raises ServerUnreachable."""

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        """The server anew after `error`; raises `error`, or a clearer one, where there is no other."""


@dataclass(frozen=True)
class GivenServer:
    """A server that somebody else keeps running."""

    server: ComfyServer

    def open(self) -> ComfyServer:
        """The server itself."""
        return self.server

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        """Always raises: nobody here can start it again."""
        raise error


@dataclass(frozen=True)
class RunProgress:
    """Where a run stands: `done` of `total` images are in the folder, `made` of them in this run."""

    done: int
    total: int
    made: int
    note: str = ""


@dataclass(frozen=True)
class RunSummary:
    """How a run ended. `made` images are new, `there` were in the folder before; `seconds` is the time of making them."""

    folder: Path
    total: int
    made: int
    there: int
    seconds: float


@dataclass(frozen=True)
class _Job:
    """The planned images `indices` of one batch. `attempt` numbers its prompt ids, `failures` counts what we caused."""

    batch_index: int
    indices: tuple[int, ...]
    attempt: int = 0
    failures: int = 0
    posted: bool = False


def run_plan(
    workflow: Workflow,
    server: str | ComfyServer | ServerSource,
    out: Path | str,
    *,
    on_progress: Callable[[RunProgress], None] | None = None,
    tries: int = 3,
    queue_depth: int = 2,
) -> RunSummary:
    """Makes every image of the workflow's plan that the folder lacks. `tries` is for each job.

    Nothing is written before the workflow is checked against the server. Finished images stay whatever happens.

    Raises:
        PlanError, WorkflowError: the workflow makes no plan, or cannot run on this server.
        FolderError, LabelsetError: the folder is not this run's, is in use, or cannot be written.
        ServerUnreachable, ServerRefused: no server there, or it refuses the workflow.
        RunIncomplete: the server went away for good, or jobs failed `tries` times; running again completes the folder.
        KeyboardInterrupt: Ctrl-C; own jobs are cancelled first.
    """
    plan = workflow.plan()
    folder_names(plan.counts())
    folder = RunFolder(Path(out), workflow, plan)
    folder.check()
    with ExitStack() as stack:
        if folder.exists:
            stack.enter_context(folder.locked())
            folder.open()
            if folder.count() == len(plan):
                folder.labelled.write_card()
                return RunSummary(folder.root, len(plan), 0, len(plan), 0.0)
        source = _source(server, stack)
        comfy = source.open()
        object_info = comfy.object_info()
        validate(workflow, object_info)
        for warning in warnings(workflow):
            log.warning("warning: %s", warning)
        if not folder.exists:
            stack.enter_context(folder.locked())
            folder.open()
        folder.describe({"url": comfy.url, **describe_server(comfy.system_stats(), object_info)})
        run = _Run(workflow, plan, folder, source, comfy, on_progress=on_progress, tries=tries, depth=queue_depth)
        return run.execute()


def _source(server: str | ComfyServer | ServerSource, stack: ExitStack) -> ServerSource:
    if isinstance(server, str):
        server = stack.enter_context(ComfyServer(server))
    return GivenServer(server) if isinstance(server, ComfyServer) else server


@dataclass
class _Run:
    """The state of one run. `flying` maps prompt id -> job on the server; `again` holds jobs to try once more."""

    workflow: Workflow
    plan: GenerationPlan
    folder: RunFolder
    source: ServerSource
    server: ComfyServer
    on_progress: Callable[[RunProgress], None] | None = None
    tries: int = 3
    depth: int = 2
    made: int = 0
    flying: dict[str, _Job] = field(default_factory=dict)
    again: deque[_Job] = field(default_factory=deque)
    given_up: dict[int, str] = field(default_factory=dict)
    jobs_given_up: int = 0

    def execute(self) -> RunSummary:
        """Runs until nothing is missing or nothing more can be done."""
        self.there = self.folder.count()
        self.saver = self.workflow.only_id_of(SAVER)
        self.todo = self._missing_jobs()
        begun = time.monotonic()
        self._report()
        try:
            self._loop()
        except ServerUnreachable as error:
            self._write_card()
            raise RunIncomplete(f"{error}. {self._standing()}") from error
        except BaseException as error:
            self._cancel()
            self._write_card()
            if isinstance(error, KeyboardInterrupt):
                log.warning("interrupted. %s", self._standing())
            raise
        self.folder.labelled.write_card()
        if self.given_up:
            self._list_given_up()
            raise RunIncomplete(f"{len(self.given_up)} images could not be made (listed above). {self._standing()}")
        return RunSummary(self.folder.root, len(self.plan), self.made, self.there, time.monotonic() - begun)

    def _missing_jobs(self) -> Iterator[_Job]:
        size = self.workflow.batch_size
        for batch_index in range(self.plan.batch_count(size)):
            start = batch_index * size
            missing = self.folder.missing(range(start, min(start + size, len(self.plan))))
            if missing:
                yield _Job(batch_index, tuple(missing))

    def _loop(self) -> None:
        while True:
            try:
                self._fill()
                if not self.flying:
                    return
                finished = self.server.wait(list(self.flying), on_event=self._hear)
                if finished is not None:
                    self._take(finished)
            except ServerUnreachable as error:
                self.again.extendleft(reversed(self.flying.values()))
                self.flying.clear()
                self.server = self.source.replace(error)

    def _fill(self) -> None:
        """Keeps the server fed: as many jobs on it as `depth`."""
        while len(self.flying) < self.depth:
            job = self.again.popleft() if self.again else next(self.todo, None)
            if job is None:
                return
            try:
                self._launch(job)
            except ServerUnreachable:
                self.again.appendleft(job)
                raise

    def _launch(self, job: _Job) -> None:
        """Posts a job, unless the server has it from an earlier client or from a post whose answer was lost."""
        while True:
            prompt_id = self._prompt_id(job)
            found = self.server.find(prompt_id)
            if not isinstance(found, JobResult) or found.outcome == SUCCESS:
                break
            job = replace(job, attempt=job.attempt + 1, posted=False)  # an earlier client's failure; ours starts anew
        if found is False:
            self.server.submit(self._graph(job), prompt_id=prompt_id)
            job = replace(job, posted=True)
        self.flying[prompt_id] = job

    def _prompt_id(self, job: _Job) -> str:
        rows = ",".join(map(str, job.indices))
        run = f"{self.folder.run_id} {self.workflow.fingerprint}"
        name = f"{run} {self.workflow.batch_size} {job.batch_index} {rows} {job.attempt}"
        return str(uuid.uuid5(_NAMESPACE, name))

    def _graph(self, job: _Job) -> dict[str, Any]:
        # A folder of its own for every run and attempt, so that nothing older is taken for what this job makes.
        folder = f"synthgrid/{self.folder.run_id}" + (f"-{job.attempt}" if job.attempt else "")
        size = self.workflow.batch_size
        start = job.batch_index * size
        whole = len(job.indices) == min(start + size, len(self.plan)) - start
        return self.workflow.for_batch(job.batch_index, folder=folder, only=() if whole else job.indices)

    def _take(self, finished: Finished) -> None:
        job = self.flying.pop(finished.prompt_id)
        try:
            self._fill()  # first the next job, so that the server works while we collect
            self._collect(job, successful(finished.result))
        except JobFailed as error:
            self._retry(job, job.indices, str(error))
        except ServerUnreachable:
            self.again.appendleft(replace(job, indices=tuple(self.folder.missing(job.indices))))
            raise

    def _collect(self, job: _Job, result: JobResult) -> None:
        """Fetches and checks every image of a job; what did not come is tried again."""
        entries = self._entries(result)
        problems: dict[int, str] = {}
        for index in job.indices:
            try:
                if index not in entries:
                    raise TransferError(f"the server returned no image for row {index}")
                record, location = entries[index]
                data = self.server.view(location)
                check_image(data, record)
            except TransferError as error:
                problems[index] = str(error)
                continue
            self.folder.labelled.add(record, data)
            self.made += 1
            self._report()
        if problems:
            self._retry(job, tuple(problems), next(iter(problems.values())))

    def _entries(self, result: JobResult) -> dict[int, tuple[ImageRecord, Any]]:
        """Plan index -> (record, location of the image), for the records that are those of planned rows."""
        output = result.outputs.get(self.saver)
        output = output if isinstance(output, Mapping) else {}
        records, images = output.get("synthgrid_records"), output.get("images")
        if not isinstance(records, list) or not isinstance(images, list) or len(records) != len(images):
            log.debug("the saver returned no records: %r", output)
            return {}
        entries = {}
        for value, location in zip(records, images, strict=True):
            try:
                record = ImageRecord.from_dict(value)
            except LabelsetError as error:
                log.debug("%s", error)
                continue
            check_record(record, self.plan)
            entries[record.index] = (record, location)
        return entries

    def _retry(self, job: _Job, indices: tuple[int, ...], reason: str) -> None:
        """Tries the images again, or gives them up. What an earlier client left behind is not held against the job."""
        failures = job.failures + job.posted
        if failures < self.tries:
            log.info("batch %d, try %d: %s; trying again", job.batch_index, failures, reason)
            self.again.appendleft(_Job(job.batch_index, indices, job.attempt + 1, failures))
            return
        log.warning("batch %d given up after %d tries: %s", job.batch_index, failures, reason)
        self.given_up.update(dict.fromkeys(indices, reason))
        self.jobs_given_up += 1
        if self.jobs_given_up >= HOPELESS_JOBS and not self.made:
            raise RunIncomplete(
                f"the first {self.jobs_given_up} jobs all failed {self.tries} times: {reason}. {self._standing()}"
            )

    def _list_given_up(self) -> None:
        by_reason: dict[str, list[int]] = {}
        for index, reason in sorted(self.given_up.items()):
            by_reason.setdefault(reason, []).append(index)
        for reason, indices in by_reason.items():
            rows = ", ".join(f"{index} ({self.plan.row(index).label})" for index in indices[:20])
            more = f" and {len(indices) - 20} more" if len(indices) > 20 else ""
            log.error("missing: row %s%s: %s", rows, more, reason)

    def _standing(self) -> str:
        done = self.there + self.made
        return f"{done} of {len(self.plan)} images are in {self.folder.root}; run the same command again to complete it"

    def _write_card(self) -> None:
        """As far as possible: what ended the run is the news."""
        with suppress(LabelsetError):
            self.folder.labelled.write_card()

    def _cancel(self) -> None:
        """Takes our own jobs off the server, as far as it can still be reached."""
        try:
            self.server.cancel(list(self.flying))
        except (ServerUnreachable, ServerRefused) as error:
            log.debug("could not cancel: %s", error)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress) and event.prompt_id in self.flying:
            self._report(f"step {event.value}/{event.total}")

    def _report(self, note: str = "") -> None:
        if self.on_progress is not None:
            self.on_progress(RunProgress(self.there + self.made, len(self.plan), self.made, note))


def successful(result: JobResult | None) -> JobResult:
    """The result of a job that succeeded.

    Raises:
        JobFailed: it did not, or the server no longer knows it (None).
    """
    if result is None:
        raise JobFailed("the server lost the job: it restarted, or somebody deleted it")
    if result.outcome != SUCCESS:
        raise JobFailed(result.reason)
    return result


def check_record(record: ImageRecord, plan: GenerationPlan) -> None:
    """Compares a server's record with the planned row.

    Raises:
        ServerRefused: they differ, so that the nodes on the server plan otherwise than this client.
    """
    advice = "the server's SynthGrid nodes are of another version than this client; update both"
    if record.plan_id != plan.plan_id:
        raise ServerRefused(f"the server made plan {record.plan_id}, not {plan.plan_id}; {advice}")
    if not 0 <= record.index < len(plan):
        raise ServerRefused(f"the server made row {record.index}, but the plan has {len(plan)} rows; {advice}")
    row = plan.row(record.index)
    for name in ("label", "prompt", "negative_prompt", "seed", "template", "context", "style"):
        if getattr(record, name) != getattr(row, name):
            raise ServerRefused(
                f"row {row.index}: the server has {name} {getattr(record, name)!r}, the plan {getattr(row, name)!r}; "
                + advice
            )
    if record.file_name not in image_file_names(row.label, plan.plan_id, row.index):
        raise ServerRefused(f"row {row.index}: the server names its file '{record.file_name}'; {advice}")


def check_image(data: bytes, record: ImageRecord) -> None:
    """Checks that the bytes are the whole image that the record speaks of: hash, decoding, size, record inside.

    Raises:
        TransferError: they are not.
    """
    if sha256_of(data) != record.sha256:
        raise TransferError(f"{record.file_name} arrived with other bytes than the server saved ({len(data)} bytes)")
    try:
        inside = read_record(data)
    except LabelsetError as error:
        raise TransferError(f"{record.file_name}: {error}") from error
    if inside is None or inside.key != record.key:
        raise TransferError(f"{record.file_name} holds no record of its own, or that of another image")

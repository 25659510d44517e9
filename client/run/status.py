"""The status of a run, for other processes: a small file in the folder, kept after the run.

<root>/.synthgrid-state.json    written about once a second, atomically, and kept afterwards
<root>/.synthgrid-cancel        `client.run.cancel` asks the run to stop, as Ctrl-C would

with StateKeeper(out) as keeper:
    run_plan(workflow, servers, out, on_event=keeper.take, on_progress=keeper.see)
status(out).to_dict()
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import LabelledFolder, RowSet, read_regular, rejected_attempts

from ..errors import FolderError
from ..folder.run_folder import GENERATION, is_locked, read_generation
from ..wording import printable, with_texts
from . import events

if TYPE_CHECKING:
    from .runner import RunProgress

log = logging.getLogger(__name__)

STATE = ".synthgrid-state.json"
CANCEL = ".synthgrid-cancel"
RUNNING, KILLED = "running", "killed"  # in addition to the outcomes of events.RunEnded
_VERSION = 1
_SHOWN = {"servers", "reason", "host"}
_SKEW_S = 5.0  # how far two clocks may differ
_FRESH_S = 10.0  # a state from another machine that is older does not belong to a running run


@dataclass(frozen=True)
class ServerState:
    """A server in a run. `jobs` are the ids of its prompts there; the rest is as in events.py."""

    name: str
    url: str = ""
    state: str = events.DOWN
    images: int = 0
    images_per_s: float = 0.0
    jobs: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class RunState:
    """The contents of the state file. Times are in seconds since 1970.

    `outcome` is "running", or one of events.RunEnded; `eta_s` is None while the speed is unknown.
    """

    outcome: str
    host: str
    pid: int
    started: float
    updated: float
    total: int
    done: int
    made: int
    failed: int = 0
    images_per_s: float = 0.0
    eta_s: float | None = None
    reason: str = ""
    classes: Mapping[str, int] = field(default_factory=dict)
    servers: tuple[ServerState, ...] = ()


def read_state(root: Path) -> RunState | None:
    """The state that the last run left or keeps; None if there is none that can be read."""
    try:
        value = json.loads(read_regular(root / STATE))
        if value.pop("version") != _VERSION:
            return None
        for name in _SHOWN & set(value):  # a stranger's folder, or an older version's
            value[name] = with_texts(value[name], printable)
        servers = tuple(
            ServerState(**{**each, "jobs": tuple(each["jobs"])}) for each in value.pop("servers")
        )
        if "set_aside" in value:  # how the first versions spelled `failed`
            value["failed"] = value.pop("set_aside")
        return RunState(**value, servers=servers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.debug("%s: %s", root / STATE, error)
        return None


class StateKeeper:
    """Keeps the state file of one run, and watches for a request to cancel it. A context manager.

    `take` and `see` only take notes: a thread of its own writes the file, at most every `every_s`
    seconds, so that no server waits for it. A folder that the run never opened is not touched. A
    request to cancel interrupts the main thread.
    """

    def __init__(self, root: Path | str, *, every_s: float = 1.0) -> None:
        self._root = Path(root).expanduser()
        self._every_s = every_s
        self._created = time.time()
        self._lock = threading.Lock()
        self._started: events.RunStarted | None = None
        self._ended: events.RunEnded | None = None
        self._progress: RunProgress | None = None
        self._urls: dict[str, str] = {}
        self._jobs: dict[str, dict[str, None]] = {}
        self._asked = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="state", daemon=True)

    def __enter__(self) -> StateKeeper:
        # A script started us in the background, where Ctrl-C is ignored. It stays ignored, but a
        # request to cancel is obeyed.
        self._deaf = (
            threading.current_thread() is threading.main_thread() and _interrupts_are_ignored()
        )
        if self._deaf:
            signal.signal(signal.SIGINT, self._hear)
        self._thread.start()
        return self

    def _hear(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._write()

    def take(self, event: events.AnyEvent) -> None:
        """Notes an event; for any thread."""
        with self._lock:
            if isinstance(event, events.RunStarted):
                self._started = event
            elif isinstance(event, events.RunEnded):
                self._ended = event
            elif isinstance(event, events.ServerUp):
                self._urls[event.server] = event.url
            elif isinstance(event, events.JobPosted):
                self._jobs.setdefault(event.server, {})[event.prompt_id] = None
            elif isinstance(event, (events.JobFinished, events.JobMoved)):
                self._jobs.get(event.server, {}).pop(event.prompt_id, None)

    def see(self, progress: RunProgress) -> None:
        """Notes the progress; for any thread."""
        with self._lock:
            self._progress = progress

    def _keep(self) -> None:
        while not self._over.wait(self._every_s):
            self._write()
            if not self._asked and self._started is not None and self._asked_to_stop():
                self._asked = True
                log.warning("asked to stop by another process")
                _interrupt_main_thread()

    def _asked_to_stop(self) -> bool:
        """Whether somebody asks this run to stop; a request from before its start is an old one."""
        try:
            return (self._root / CANCEL).stat().st_mtime > self._created - _SKEW_S
        except OSError:
            return False

    def _write(self) -> None:
        """Writes the file if possible: if the disk is full, the folder's own writes report it."""
        with self._lock:
            state = self._state()
        if state is None:
            return
        text = json.dumps({"version": _VERSION, **asdict(state)}, ensure_ascii=False)
        temporary = self._root / f"{STATE}.{os.getpid()}.part"  # no fsync: it is soon outdated
        try:
            temporary.write_text(text + "\n", encoding="utf-8", errors="replace")
            temporary.replace(self._root / STATE)
        except OSError as error:
            log.debug("%s: %s", self._root / STATE, error)
            with suppress(OSError):
                temporary.unlink()

    def _state(self) -> RunState | None:
        started, ended, seen = self._started, self._ended, self._progress
        if started is None:
            return None
        figures = {each.name: each for each in (seen.servers if seen else ())}
        servers = []
        for name in dict.fromkeys((*started.servers, *figures)):
            each = figures.get(name)
            jobs = tuple(self._jobs.get(name, ()))
            if each is None:
                servers.append(ServerState(name, self._urls.get(name, ""), jobs=jobs))
            else:
                rate = round(each.images_per_s, 3)
                servers.append(
                    ServerState(
                        name,
                        self._urls.get(name, ""),
                        each.state,
                        each.images,
                        rate,
                        jobs,
                        each.reason,
                    )
                )
        return RunState(
            outcome=ended.outcome if ended else RUNNING,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=started.at,
            updated=time.time(),
            total=started.total,
            done=ended.done if ended else seen.done if seen else started.existing,
            made=ended.made if ended else seen.made if seen else 0,
            failed=ended.failed if ended else seen.failed if seen else 0,
            images_per_s=round(seen.images_per_s, 3) if seen and not ended else 0.0,
            eta_s=round(seen.eta_s, 1) if seen and seen.eta_s is not None and not ended else None,
            reason=ended.reason if ended else "",
            classes=dict(seen.classes) if seen else {},
            servers=tuple(servers),
        )


def _interrupts_are_ignored() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _interrupt_main_thread() -> None:
    """Does what Ctrl-C does; on POSIX with a real signal, which also wakes a sleeping thread."""
    if sys.platform == "win32":
        import _thread

        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@dataclass(frozen=True)
class Status:
    """The status of a folder.

    `outcome` is None if no run is known, and "killed" if the last one ended without saying how.
    `planned`, and the planned counts in `classes`, are None if no generation.json gives the plan.
    `rejected` is how many rows of the plan had an image that a check rejected.
    """

    folder: Path
    running: bool
    outcome: str | None
    done: int
    planned: int | None
    classes: Mapping[str, tuple[int, int | None]]
    state: RunState | None
    rejected: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The status as a JSON object."""
        state = self.state
        kept = (
            "host",
            "pid",
            "started",
            "updated",
            "made",
            "failed",
            "images_per_s",
            "eta_s",
            "reason",
        )
        return {
            "folder": str(self.folder),
            "running": self.running,
            "outcome": self.outcome,
            "done": self.done,
            "planned": self.planned,
            "rejected": self.rejected,
            "classes": {
                label: {"done": done, "planned": planned}
                for label, (done, planned) in self.classes.items()
            },
            **{name: getattr(state, name) if state else None for name in kept},
            "servers": [asdict(each) | {"jobs": list(each.jobs)} for each in state.servers]
            if state
            else [],
        }


def status(root: Path) -> Status:
    """The status of a folder: from its state file during a run, else counted from its records.

    Changes nothing.

    Raises:
        FolderError: the folder does not exist, or its generation.json is damaged.
        LabelsetError: metadata.jsonl or a class folder cannot be read.
    """
    if not root.is_dir():
        raise FolderError(f"{root} is not a folder; give a labelled folder")
    plan = read_generation(root).plan if (root / GENERATION).exists() else None
    state = read_state(root)
    running = state is not None and state.outcome == RUNNING and _alive(root, state)
    outcome = state.outcome if state else None
    if outcome == RUNNING and not running:
        outcome = KILLED
    counts = (
        dict(state.classes) if state and running else _counted(root, plan.plan_id if plan else None)
    )
    labels = plan.counts() if plan else dict.fromkeys(counts)
    classes = {label: (counts.get(label, 0), planned) for label, planned in labels.items()}
    done = sum(count for count, _ in classes.values())
    planned = len(plan) if plan else None
    rejected = len(rejected_attempts(root, plan.plan_id)) if plan else 0
    return Status(root, running, outcome, done, planned, classes, state, rejected)


def _alive(root: Path, state: RunState) -> bool:
    """Whether this state's run goes on. Its lock may be invisible from here; then age decides."""
    if is_locked(root):
        return True
    return state.host != socket.gethostname() and time.time() - state.updated < _FRESH_S


def _counted(root: Path, plan_id: str | None) -> Counter[str]:
    """Label -> images that exist and have a record, of one plan or of all."""
    labelled = LabelledFolder(root)
    names, rows, counts = labelled.image_names(), RowSet(), Counter[str]()
    for line in labelled.lines():
        try:
            record = line.record()
        except LabelsetError:
            continue  # `verify` reports it
        if (
            record.key not in rows
            and names.claim(record.file_name)
            and plan_id in (None, record.plan_id)
        ):
            rows.add(record.key)
            counts[record.label] += 1
    return counts

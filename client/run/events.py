"""What happens in a run, as values: one small frozen dataclass per kind of event. No I/O.

    run_plan(workflow, servers, out, on_event=lambda event: print(as_dict(event)))
    # {"event": "image_saved", "at": 1767225600.0, "server": "gpu-1", "index": 7, "label": "7", ...}

Events arrive one at a time, in the order in which things happened, on the thread on which they
happened. `server` is the server's name. `at` is the time in seconds since 1970.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

COMPLETE, INCOMPLETE, INTERRUPTED, FAILED = "complete", "incomplete", "interrupted", "failed"
UP, DOWN, HUNG, FAILING, OUT = "up", "down", "hung", "failing", "out"


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """The fields that every event has."""

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class RunStarted(RunEvent):
    """The folder is ready and already has `existing` of its `total` images.

    `servers` are the names of all servers.
    """

    folder: str
    plan_id: str
    total: int
    existing: int
    servers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ServerUp(RunEvent):
    """The server can run the workflow and gets jobs from now on, for the first time or again."""

    server: str
    url: str


@dataclass(frozen=True, kw_only=True)
class ServerDown(RunEvent):
    """The server gets no jobs for now; the ones it had may go to others.

    `state` is "down" (no answer), "hung" (it answers, but nothing moves), "failing" (one job after
    another fails there) or "out" (it is not tried again in this run).
    """

    server: str
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobPosted(RunEvent):
    """The batch is on the server.

    `found`: it was already there, from an earlier client or because an answer was lost.
    """

    server: str
    prompt_id: str
    batch_index: int
    indices: tuple[int, ...]
    attempt: int
    found: bool


@dataclass(frozen=True, kw_only=True)
class JobFinished(RunEvent):
    """The batch is finished on this server, and the `images` that it made are saved."""

    server: str
    prompt_id: str
    batch_index: int
    images: int


@dataclass(frozen=True, kw_only=True)
class JobMoved(RunEvent):
    """The batch is no longer expected from this server; the next free server takes it."""

    server: str
    prompt_id: str
    batch_index: int


@dataclass(frozen=True, kw_only=True)
class JobRetried(RunEvent):
    """Images of the batch failed on this server for the `failures`-th time and are tried again."""

    server: str
    batch_index: int
    indices: tuple[int, ...]
    failures: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImageSaved(RunEvent):
    """The image and its record are in the folder. `file_name` is relative to the folder."""

    server: str
    index: int
    label: str
    file_name: str


@dataclass(frozen=True, kw_only=True)
class ImageFailed(RunEvent):
    """The image is given up for this run; running again tries it again."""

    index: int
    label: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(RunEvent):
    """The last event. `reason` says why where the run is not complete.

    `outcome` is "complete", "incomplete", "interrupted" or "failed". `done` of `total` images are
    in the folder, `made` of them new; `failed` were given up; the run took `seconds`.
    """

    outcome: str
    done: int
    made: int
    total: int
    failed: int
    seconds: float
    reason: str = ""


AnyEvent: TypeAlias = (
    RunStarted
    | ServerUp
    | ServerDown
    | JobPosted
    | JobFinished
    | JobMoved
    | JobRetried
    | ImageSaved
    | ImageFailed
    | RunEnded
)


def as_dict(event: AnyEvent) -> dict[str, Any]:
    """The event as a JSON object: its kind as "event" ("image_saved"), then its fields."""
    return {"event": kind_of(type(event)), **asdict(event)}


def kind_of(event: type[RunEvent]) -> str:
    """The kind of an event in JSON: ImageSaved -> "image_saved"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event.__name__).lower()
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event.__name__).lower()

"""What happens in a run, as values: one small frozen dataclass for each kind of event. No I/O.

    run_plan(workflow, servers, out, on_event=lambda event: print(as_dict(event)))
    # {"event": "image_saved", "at": 1767225600.0, "server": "gpu-1", "index": 7, "label": "7", ...}

Events come one at a time, in the order in which things happened, from the thread in which they happened. `server` is the
server's name. `at` is the time in seconds since 1970.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias, get_args, get_type_hints

COMPLETE, INCOMPLETE, INTERRUPTED, FAILED = "complete", "incomplete", "interrupted", "failed"
UP, DOWN, HUNG, FAILING, OUT = "up", "down", "hung", "failing", "out"


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """What every event has."""

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class RunStarted(RunEvent):
    """The folder is ready. `existing` of its `total` images are in it already; `servers` are the names of all servers."""

    folder: str
    plan_id: str
    total: int
    existing: int
    servers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ServerUp(RunEvent):
    """The server can run the workflow and is given jobs from now on, for the first time or again."""

    server: str
    url: str


@dataclass(frozen=True, kw_only=True)
class ServerDown(RunEvent):
    """The server is given no jobs for now; those that it had may go to others.

    `state` is "down" (no answer), "hung" (answers, but nothing moves), "failing" (one job after the other fails there)
    or "out" (it is not tried again in this run).
    """

    server: str
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobPosted(RunEvent):
    """The batch is on the server; `found` where it was there already, from an earlier client or a lost answer."""

    server: str
    prompt_id: str
    batch_index: int
    indices: tuple[int, ...]
    attempt: int
    found: bool


@dataclass(frozen=True, kw_only=True)
class JobFinished(RunEvent):
    """The batch is over on this server: every image that it brought is saved, and `images` says how many those are."""

    server: str
    prompt_id: str
    batch_index: int
    images: int


@dataclass(frozen=True, kw_only=True)
class JobMoved(RunEvent):
    """The batch is not expected from this server any more: whoever is free takes it next."""

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
    """The image is given up in this run; running again tries it anew."""

    index: int
    label: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(RunEvent):
    """`outcome` is "complete", "incomplete", "interrupted" or "failed"; `reason` says why where it is not complete.

    `done` of `total` images are in the folder, `made` of them new; `seconds` is how long the run took.
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
    """The event as a JSON object: its kind under "event", as "image_saved", then its fields."""
    return {"event": kind_of(type(event)), **asdict(event)}


def kind_of(event: type[RunEvent]) -> str:
    """What a kind of event is called in JSON: ImageSaved -> "image_saved"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event.__name__).lower()


_JSON_TYPES: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    tuple[str, ...]: {"type": "array", "items": {"type": "string"}},
    tuple[int, ...]: {"type": "array", "items": {"type": "integer"}},
}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line of `run --json-events`; every field is always there.

    Later versions may add kinds of events and fields: readers should leave alone what they do not know.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One event of a SynthGrid run",
        "oneOf": [_schema_of(each) for each in get_args(AnyEvent)],
    }


def _schema_of(event: type[RunEvent]) -> dict[str, Any]:
    hints = get_type_hints(event)
    types = {each.name: dict(_JSON_TYPES[hints[each.name]]) for each in fields(event)}
    return {
        "title": event.__name__,
        "description": " ".join((event.__doc__ or "").split()),
        "type": "object",
        "properties": {"event": {"const": kind_of(event)}, **types},
        "required": ["event", *types],
    }

"""ComfyUI's messages as values: websocket text -> event, history entry -> JobResult. No I/O.

    parse_message('{"type": "progress", "data": {"prompt_id": "p", "node": "8", "value": 3, ...}}')
    # Progress(prompt_id='p', node='8', value=3, total=20)

What is unknown, malformed or irrelevant parses to None: the socket is a hint, /history decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

SUCCESS, ERROR, INTERRUPTED = "success", "error", "interrupted"
_ENDINGS = {
    "execution_success": SUCCESS,
    "execution_error": ERROR,
    "execution_interrupted": INTERRUPTED,
}


@dataclass(frozen=True)
class QueueStatus:
    """How many prompts, of all clients, the server has yet to finish."""

    remaining: int


@dataclass(frozen=True)
class Started:
    """A prompt started to run."""

    prompt_id: str


@dataclass(frozen=True)
class Executing:
    """A node of the prompt started to run; `node` is None once the prompt is finished."""

    prompt_id: str
    node: str | None


@dataclass(frozen=True)
class Progress:
    """`value` of `total` steps of a node are done."""

    prompt_id: str
    node: str
    value: int
    total: int


@dataclass(frozen=True)
class Executed:
    """A node with ui output is done."""

    prompt_id: str
    node: str
    output: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobDone:
    """The prompt ended. `outcome` is "success", "error" or "interrupted".

    `reason` says why it was not a success.
    """

    prompt_id: str
    outcome: str
    reason: str = ""


Event: TypeAlias = QueueStatus | Started | Executing | Progress | Executed | JobDone


@dataclass(frozen=True)
class JobResult:
    """What /history says of a prompt that ended. `outputs` maps node id -> ui output."""

    outcome: str
    reason: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueState:
    """The ids of the running and the waiting prompts, of all clients."""

    running: frozenset[str]
    pending: frozenset[str]

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


def parse_message(text: str | bytes) -> Event | None:
    """The event in one websocket message; None for binary frames (previews) and unknown ones."""
    if isinstance(text, bytes):
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("data"), dict):
        return None
    try:
        return _event(message.get("type"), message["data"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _event(kind: Any, data: dict[str, Any]) -> Event | None:
    if kind == "status":
        return QueueStatus(int(data["status"]["exec_info"]["queue_remaining"]))
    if kind == "execution_start":
        return Started(str(data["prompt_id"]))
    if kind == "executing":
        return Executing(
            str(data["prompt_id"]), None if data["node"] is None else str(data["node"])
        )
    if kind == "progress":
        return Progress(
            str(data["prompt_id"]), str(data["node"]), int(data["value"]), int(data["max"])
        )
    if kind == "executed":
        return Executed(str(data["prompt_id"]), str(data["node"]), dict(data.get("output") or {}))
    if isinstance(kind, str) and kind in _ENDINGS:
        return JobDone(str(data["prompt_id"]), _ENDINGS[kind], _reason(kind, data))
    return None


def parse_history_entry(entry: Any) -> JobResult | None:
    """The result in one value of /history; None while the entry says nothing final.

    `status_str` is "error" for an interrupted prompt too; its last message tells the difference.
    """
    if not isinstance(entry, dict):
        return None
    outputs = entry.get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {}
    status = entry.get("status")
    if not isinstance(status, dict):
        # Servers before 2024 leave it out; having an entry then means that the prompt is finished.
        return JobResult(SUCCESS, "", outputs)
    messages = status.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if (
            isinstance(message, list)
            and len(message) == 2
            and isinstance(message[0], str)
            and message[0] in _ENDINGS
        ):
            data = message[1] if isinstance(message[1], dict) else {}
            return JobResult(_ENDINGS[message[0]], _reason(message[0], data), outputs)
    if status.get("status_str") == "success":
        return JobResult(SUCCESS, "", outputs)
    return JobResult(ERROR, "the server gives no reason", outputs)


def parse_queue(value: Any) -> QueueState:
    """The prompt ids in an answer of GET /queue; malformed rows are left out."""
    rows = value if isinstance(value, dict) else {}
    return QueueState(_ids(rows.get("queue_running")), _ids(rows.get("queue_pending")))


def _ids(rows: Any) -> frozenset[str]:
    rows = rows if isinstance(rows, list) else []
    return frozenset(str(row[1]) for row in rows if isinstance(row, list) and len(row) > 1)


def _reason(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "execution_success":
        return ""
    where = f"node {data.get('node_id', '?')} ({data.get('node_type', '?')})"
    if kind == "execution_interrupted":
        return f"interrupted at {where}"
    message = " ".join(str(data.get("exception_message", "")).split())
    kind_of_error = str(data.get("exception_type", "")).rpartition(".")[2]
    return f"{where} failed: " + ": ".join(part for part in (kind_of_error, message) if part)


def describe_refusal(body: Any) -> str:
    """The errors in a 400 answer of POST /prompt (or in the `node_errors` of a 200) as one line.

    "node 4 (CheckpointLoaderSimple): Value not in list: ckpt_name: 'x' not in ['y']"
    """
    if not isinstance(body, dict):
        return " ".join(str(body).split())[:300]
    lines = [line for node, errors in _node_errors(body) for line in _node_lines(node, errors)]
    if lines:
        return "; ".join(lines)
    error = body.get("error")
    if isinstance(error, dict):
        return _error_line(error)
    return " ".join(str(error or body).split())[:300]


def _node_errors(body: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    errors = body.get("node_errors")
    errors = errors if isinstance(errors, dict) else {}
    return [(str(node), value) for node, value in errors.items() if isinstance(value, dict)]


def _node_lines(node: str, value: Mapping[str, Any]) -> list[str]:
    where = f"node {node} ({value.get('class_type', '?')})"
    errors = value.get("errors")
    return [
        f"{where}: {_error_line(each)}"
        for each in (errors if isinstance(errors, list) else [])
        if isinstance(each, dict)
    ]


def _error_line(error: Mapping[str, Any]) -> str:
    parts = [" ".join(str(error.get(key) or "").split()) for key in ("message", "details")]
    return ": ".join(part for part in parts if part)[:500] or str(
        error.get("type", "unknown error")
    )

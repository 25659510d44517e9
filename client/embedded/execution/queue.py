"""The waiting prompts, the running one, and the history. Thread-safe, in memory only.

Prompts and results are kept as JSON text, which takes a small part of the memory that objects
would, and which nothing that a node does to a prompt can change.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import EmbeddedError
from ..limits import MIB, MOST_HISTORY, MOST_HISTORY_BYTES, MOST_WAITING_BYTES
from .jobs import Job, JobState, finished_job, waiting_job
from .prompt import Outcome, QueuedPrompt


@dataclass(frozen=True, order=True)
class _Row:
    """A waiting or running prompt: its place, and its row as JSON."""

    number: float
    prompt_id: str
    text: str = field(compare=False)
    job: Job = field(compare=False)


@dataclass(frozen=True)
class _Entry:
    """A finished prompt: its entry of /history as JSON, and its job."""

    text: str
    job: Job

    @property
    def size(self) -> int:
        """In bytes: the text is ASCII."""
        return len(self.text) + len(self.job.text)


class PromptQueue:
    """`on_change` is called, on any thread, whenever the number of prompts may have changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.RLock()
        self._filled = threading.Condition(self._lock)
        self._pending: list[_Row] = []
        self._running: _Row | None = None
        self._history: dict[str, _Entry] = {}
        self._history_size = 0

    def put(self, item: QueuedPrompt) -> None:
        """Queues a prompt.

        Raises:
            EmbeddedError: one with the same id and number is waiting, or too many are.
        """
        row = _Row(item.number, item.prompt_id, json.dumps(item.row()), waiting_job(item))
        with self._lock:
            if row in self._pending:
                raise EmbeddedError(
                    f"prompt {item.prompt_id} is queued already; use another prompt_id"
                )
            if sum(len(each.text) for each in self._pending) + len(row.text) > MOST_WAITING_BYTES:
                raise EmbeddedError(
                    f"more than {MOST_WAITING_BYTES // MIB} MB of prompts are waiting; "
                    "post this one again when some of them are done"
                )
            heapq.heappush(self._pending, row)
            self._on_change()
            self._filled.notify()

    def take(self, *, timeout_s: float) -> QueuedPrompt | None:
        """The next prompt, which is now running; None if none arrived in time."""
        with self._lock:
            if not self._pending:
                self._filled.wait(timeout_s)
            if not self._pending:
                return None
            self._running = heapq.heappop(self._pending)
            self._on_change()
            text = self._running.text
        return QueuedPrompt(*json.loads(text))

    def finish(self, outcome: Outcome) -> None:
        """Moves the running prompt to the history, and forgets the oldest if that is too large."""
        with self._lock:
            assert self._running is not None
            row, self._running = self._running, None
            status = {
                "status_str": "success" if outcome.succeeded else "error",
                "completed": outcome.succeeded,
                "messages": outcome.messages,
            }
            rest = json.dumps({"outputs": outcome.outputs, "status": status, "meta": outcome.meta})
            entry = _Entry(f'{{"prompt": {row.text}, {rest[1:]}', finished_job(row.job, outcome))
            self._forget(row.prompt_id)
            self._history[row.prompt_id] = entry
            self._history_size += entry.size
            while len(self._history) > 1 and (
                len(self._history) > MOST_HISTORY or self._history_size > MOST_HISTORY_BYTES
            ):
                self._forget(next(iter(self._history)))
            self._on_change()

    def queue_json(self) -> str:
        """The answer of GET /queue, waiting prompts in heap order."""
        with self._lock:
            running = [self._running] if self._running else []
            pending = list(self._pending)
        running_text, pending_text = (
            ", ".join(row.text for row in rows) for rows in (running, pending)
        )
        return f'{{"queue_running": [{running_text}], "queue_pending": [{pending_text}]}}'

    def if_running(self, prompt_id: str, act: Callable[[], object]) -> bool:
        """Calls `act` if this prompt is the one that runs; none can take its place meanwhile."""
        with self._lock:
            runs = self._running is not None and self._running.prompt_id == prompt_id
            if runs:
                act()
            return runs

    def remaining(self) -> int:
        """How many prompts wait or run."""
        with self._lock:
            return len(self._pending) + (self._running is not None)

    def delete(self, prompt_ids: Iterable[str]) -> int:
        """Removes waiting prompts, which leave no trace in the history; returns how many."""
        gone = {each for each in prompt_ids if isinstance(each, str)}
        with self._lock:
            kept = [row for row in self._pending if row.prompt_id not in gone]
            count, self._pending = len(self._pending) - len(kept), kept
            heapq.heapify(self._pending)
            self._on_change()
            return count

    def clear(self) -> None:
        """Removes every waiting prompt."""
        with self._lock:
            self._pending = []
            self._on_change()

    def history_json(self, *, max_items: int | None = None, offset: int = -1) -> str:
        """The answer of GET /history, oldest first; with `max_items` and no offset, the newest."""
        with self._lock:
            entries = list(self._history.items())
        start = offset
        if max_items is not None and offset < 0:
            start = len(entries) - max_items
        entries = entries[max(start, 0) :]
        if max_items is not None:
            entries = entries[:max_items]
        return _object((prompt_id, entry.text) for prompt_id, entry in entries)

    def history_of(self, prompt_id: str) -> str:
        """JSON of {prompt_id: entry}, or of {} if the prompt is unfinished or unknown."""
        with self._lock:
            entry = self._history.get(prompt_id)
        return _object([] if entry is None else [(prompt_id, entry.text)])

    def delete_history(self, prompt_ids: Iterable[str]) -> None:
        """Forgets finished prompts."""
        with self._lock:
            for prompt_id in prompt_ids:
                self._forget(prompt_id)

    def clear_history(self) -> None:
        """Forgets every finished prompt."""
        with self._lock:
            self._history, self._history_size = {}, 0

    def jobs(self) -> list[Job]:
        """Every prompt as a job: the running one, waiting ones, finished ones."""
        with self._lock:
            rows = [*([self._running] if self._running else []), *self._pending]
            jobs = [row.job for row in rows] + [entry.job for entry in self._history.values()]
            running = self._running.prompt_id if self._running else None
        return [
            job.as_running() if job.state is JobState.PENDING and job.id == running else job
            for job in jobs
        ]

    def finished(self, prompt_id: str) -> Mapping[str, Any] | None:
        """A finished prompt's entry of the history."""
        with self._lock:
            entry = self._history.get(prompt_id)
        return None if entry is None else json.loads(entry.text)

    def _forget(self, prompt_id: str) -> None:
        if prompt_id in self._history:
            self._history_size -= self._history.pop(prompt_id).size


def _object(members: Iterable[tuple[str, str]]) -> str:
    """JSON of an object whose values are JSON already."""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members) + "}"

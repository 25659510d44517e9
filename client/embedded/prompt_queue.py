"""The waiting prompts, the running one, and the history. Thread-safe, in memory only."""

from __future__ import annotations

import copy
import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import EmbeddedError

MAXIMUM_HISTORY = 10_000


@dataclass(frozen=True)
class QueuedPrompt:
    """One POST /prompt. Lower numbers run first; equal numbers go by id."""

    number: float
    prompt_id: str
    prompt: dict[str, Any]
    extra_data: dict[str, Any]
    outputs: list[str]

    def __lt__(self, other: QueuedPrompt) -> bool:
        return (self.number, self.prompt_id) < (other.number, other.prompt_id)

    @property
    def client_id(self) -> str | None:
        """The client whose socket gets the messages; None for all clients."""
        return self.extra_data.get("client_id")

    def row(self) -> list[Any]:
        """The form that /queue and /history show."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs]


@dataclass
class Outcome:
    """What an execution leaves: ui outputs per node and their origin, and the messages sent."""

    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    succeeded: bool = False


class PromptQueue:
    """`on_change` is called, on any thread, whenever the number of prompts may have changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.RLock()
        self._filled = threading.Condition(self._lock)
        self._pending: list[QueuedPrompt] = []
        self._running: QueuedPrompt | None = None
        self._history: dict[str, dict[str, Any]] = {}

    def put(self, item: QueuedPrompt) -> None:
        """Queues a prompt. Raises EmbeddedError if one with the same id and number is waiting."""
        with self._lock:
            if any(
                each.prompt_id == item.prompt_id and each.number == item.number
                for each in self._pending
            ):
                raise EmbeddedError(
                    f"prompt {item.prompt_id} is queued already; use another prompt_id"
                )
            heapq.heappush(self._pending, item)
            self._on_change()
            self._filled.notify()

    def take(self, *, timeout_s: float) -> QueuedPrompt | None:
        """The next prompt, which is now running; None if none arrived in time."""
        with self._lock:
            if not self._pending:
                self._filled.wait(timeout_s)
            if not self._pending:
                return None
            item = heapq.heappop(self._pending)
            # It is shown as it was posted, whatever a node does to the prompt that it is given.
            self._running = copy.deepcopy(item)
            self._on_change()
            return item

    def finish(self, outcome: Outcome) -> None:
        """Moves the running prompt to the history."""
        with self._lock:
            assert self._running is not None
            item, self._running = self._running, None
            while len(self._history) >= MAXIMUM_HISTORY:
                self._history.pop(next(iter(self._history)))
            status = {
                "status_str": "success" if outcome.succeeded else "error",
                "completed": outcome.succeeded,
                "messages": outcome.messages,
            }
            self._history[item.prompt_id] = {
                "prompt": item.row(),
                "outputs": outcome.outputs,
                "status": status,
                "meta": outcome.meta,
            }
            self._on_change()

    def rows(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """(running, pending), pending in heap order."""
        with self._lock:
            running = [] if self._running is None else [self._running.row()]
            return running, [item.row() for item in self._pending]

    def is_running(self, prompt_id: str) -> bool:
        """Whether this prompt is the one that runs now."""
        with self._lock:
            return self._running is not None and self._running.prompt_id == prompt_id

    def remaining(self) -> int:
        """How many prompts wait or run."""
        with self._lock:
            return len(self._pending) + (self._running is not None)

    def delete(self, prompt_ids: list[str]) -> None:
        """Removes waiting prompts; they leave no trace in the history."""
        with self._lock:
            self._pending = [item for item in self._pending if item.prompt_id not in prompt_ids]
            heapq.heapify(self._pending)
            self._on_change()

    def clear(self) -> None:
        """Removes every waiting prompt."""
        with self._lock:
            self._pending = []
            self._on_change()

    def history(self, *, max_items: int | None = None, offset: int = -1) -> dict[str, Any]:
        """prompt_id -> entry, oldest first; with `max_items` and no offset, the newest."""
        with self._lock:
            entries = list(self._history.items())
        if max_items is None:
            return dict(entries[max(offset, 0) :])
        start = len(entries) - max_items if offset < 0 else offset
        return dict(entries[max(start, 0) :][:max_items])

    def history_of(self, prompt_id: str) -> dict[str, Any]:
        """{prompt_id: entry}, or {} if the prompt is unfinished or unknown."""
        with self._lock:
            return {prompt_id: self._history[prompt_id]} if prompt_id in self._history else {}

    def delete_history(self, prompt_ids: list[str]) -> None:
        """Forgets finished prompts."""
        with self._lock:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)

    def clear_history(self) -> None:
        """Forgets every finished prompt."""
        with self._lock:
            self._history = {}

"""A prompt on its way through the engine, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QueuedPrompt:
    """One POST /prompt. Lower numbers run first; equal numbers go by id."""

    number: float
    prompt_id: str
    prompt: dict[str, Any]
    extra_data: dict[str, Any]
    outputs: list[str]

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

"""ExecutionBlocker: a value that a node returns so that nothing which gets it runs."""

from __future__ import annotations

from typing import Any


class ExecutionBlocker:
    """Stops every node that gets it, without failing the prompt.

    `message` is reported once for each such node that it reaches first; None stops silently.
    """

    def __init__(self, message: str | None) -> None:
        self.message = message


def is_blocker(value: Any) -> bool:
    """Whether a value is a blocker: ours, or the one of a ComfyUI that a pack has imported."""
    return isinstance(value, ExecutionBlocker) or (
        type(value).__name__ == "ExecutionBlocker" and hasattr(value, "message")
    )


def blocker_among(values: Any) -> Any | None:
    """The first blocker of several values; None if there is none."""
    return next((value for value in values if is_blocker(value)), None)

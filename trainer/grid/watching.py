"""Who is told while a grid trains: a page that shows how far it is, or a tracker of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Watcher(Protocol):
    """Follows a grid. It is called in the process of the grid, between two runs, so it must be
    quick; what it raises ends the grid."""

    def begins(self, root: Path, pending: Sequence[str]) -> None:
        """grid.json is written, and the runs with these ids are about to be trained. Called again
        for the next seeds of a grid that plans them."""
        ...

    def run_ended(self, run_id: str) -> None:
        """The run's folder is written, with its results or with why it failed."""
        ...

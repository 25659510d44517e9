"""Hands a grid's runs to a tracker as they finish. Neither torch nor a tracker is imported here.

A run is handed over once: `tracked.json` in the grid's folder says which were, so that a resumed
grid, and one that is tracked only later, has all of them. Trackers get no curves, since a run
stores none: its losses are those of the weights that it kept.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from trainer.runs import Run, read_grid, read_json_file, to_json, write_file

logger = logging.getLogger(__name__)
KINDS = ("trackio", "wandb", "tensorboard", "mlflow")
TRACKED_FILE = "tracked.json"
Values = dict[str, "str | int | float | bool"]


class Tracker(Protocol):
    """A tracker of experiments, opened for one grid."""

    def add_run(self, name: str, config: Values, scores: Mapping[str, float]) -> None:
        """One finished run."""
        ...

    def add_report(self, page: Path, summary: str) -> None:
        """The report as a file, and what it says as plain text."""
        ...


def open_tracker(kind: str, root: Path) -> Tracker:
    """The tracker for the grid in `root`; `kind` is one of KINDS.

    Raises:
        ModuleNotFoundError: its library is not installed.
    """
    import_module(kind)
    found: Tracker = import_module(f"trainer.tracking.{kind}_log").open_for(root)
    return found


class Tracked:
    """A Watcher that hands runs to a tracker. A tracker that fails is one warning: the grid goes on
    without it.

    What a tracker prints goes to stderr, since a script may read the results from stdout.
    """

    def __init__(self, kind: str, open_it: Callable[[], Tracker]) -> None:
        self._kind, self._open = kind, open_it
        self._tracker: Tracker | None = None
        self._works = True

    def begins(self, root: Path, pending: Sequence[str]) -> None:
        """See Watcher. Hands over what was finished before and is not there yet."""
        self._root = root
        self._attempt(self._catch_up)

    def run_ended(self, run_id: str) -> None:
        """See Watcher."""
        self._attempt(self._catch_up)

    def report(self, page: Path, summary: str) -> None:
        """Hands over the report."""
        self._attempt(lambda tracker: tracker.add_report(page, summary))

    def _attempt(self, work: Callable[[Tracker], None]) -> None:
        if not self._works:
            return
        try:
            with redirect_stdout(sys.stderr):
                self._tracker = self._tracker or self._open()
                work(self._tracker)
        except Exception as error:  # libraries of others raise anything
            self._works = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.warning("--log %s: %s; the grid goes on without it", self._kind, reason)

    def _catch_up(self, tracker: Tracker) -> None:
        path = self._root / TRACKED_FILE
        tracked: dict[str, list[str]] = read_json_file(path) if path.is_file() else {}
        known = set(tracked.get(self._kind, ()))
        for run in read_grid(self._root).runs:
            if run.metrics and run.run_id not in known:
                tracker.add_run(run.run_id, config_of(run), scores_of(run))
                tracked.setdefault(self._kind, []).append(run.run_id)
                write_file(path, to_json(tracked))


def config_of(run: Run) -> Values:
    """A run's configuration, flat: {"training.learning_rate": 0.001, ...}. Lists are text."""
    cell = {name: getattr(run, name) for name in ("model", "arm", "budget", "seed")}
    return _flat(run.config) | cell


def scores_of(run: Run) -> dict[str, float]:
    """A run's numbers, flat: scores in 0..1, losses in nats, images, updates, seconds."""
    return {
        name.replace(".", "/"): float(value)
        for name, value in _flat(run.metrics).items()
        if not isinstance(value, str | bool)
    }


def _flat(values: Mapping[str, Any], before: str = "") -> Values:
    found: Values = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        elif isinstance(value, str | int | float | bool):
            found[f"{before}{name}"] = value
        elif value is not None:
            found[f"{before}{name}"] = str(value)
    return found


def project_name(root: Path) -> str:
    """The grid's folder name, without what trackers refuse in a project's name."""
    name = root.resolve().name
    return "".join(each if each.isalnum() or each in "-_." else "-" for each in name)

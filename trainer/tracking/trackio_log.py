"""Trackio: in its own folder (TRACKIO_DIR), or wherever TRACKIO_SPACE_ID says; `trackio show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trackio

from trainer.tracking.tracker import Values, project_name


def open_for(root: Path) -> Trackio:
    """The tracker for the grid in `root`."""
    return Trackio(project_name(root))


class Trackio:
    """See Tracker."""

    def __init__(self, project: str) -> None:
        self._project = project

    def _begin(self, name: str, config: Values) -> None:
        trackio.init(
            self._project,
            name=name,
            config=dict(config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def add_run(self, name: str, config: Values, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        self._begin(name, config)
        trackio.log(dict(scores))
        trackio.finish()

    def add_report(self, page: Path, summary: str) -> None:
        """See Tracker."""
        self._begin("report", {"summary": summary})
        trackio.log_artifact(page, name=f"{self._project}-report", type="report")
        trackio.finish()

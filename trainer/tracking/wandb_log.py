"""Weights & Biases: online if you are logged in, else in <grid>/wandb, for `wandb sync`.

WANDB_MODE, WANDB_PROJECT and the other variables of wandb decide where they are set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from trainer.tracking.tracker import Values, project_name


def open_for(root: Path) -> WeightsAndBiases:
    """The tracker for the grid in `root`."""
    return WeightsAndBiases(root)


class WeightsAndBiases:
    """See Tracker."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._project = os.environ.get("WANDB_PROJECT", project_name(root))
        # Without it wandb would ask for a key and wait.
        self._mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")

    def _begin(self, name: str, config: Values, kind: str) -> Any:
        return wandb.init(
            project=self._project,
            name=name,
            config=dict(config),
            job_type=kind,
            dir=self._root,
            mode=self._mode,
            settings=wandb.Settings(silent=True),
        )

    def add_run(self, name: str, config: Values, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        run = self._begin(name, config, "train")
        run.log(dict(scores))
        run.finish()

    def add_report(self, page: Path, summary: str) -> None:
        """See Tracker."""
        run = self._begin("report", {"summary": summary}, "report")
        artifact = wandb.Artifact(f"{project_name(self._root)}-report", type="report")
        artifact.add_file(str(page))
        run.log_artifact(artifact)
        run.finish()

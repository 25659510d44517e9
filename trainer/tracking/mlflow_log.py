"""MLflow: in <grid>/mlflow, or wherever MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from trainer.tracking.tracker import Values, project_name

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow sends the first

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

_LONGEST = 500  # characters of a value, which every version of MLflow takes
_PARAMS_AT_ONCE = 100


def open_for(root: Path) -> MLflow:
    """The tracker for the grid in `root`."""
    folder, elsewhere = root.resolve() / "mlflow", os.environ.get("MLFLOW_TRACKING_URI")
    if elsewhere:
        return MLflow(MlflowClient(elsewhere), project_name(root), None)
    folder.mkdir(exist_ok=True)
    client = MlflowClient(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    return MLflow(client, project_name(root), (folder / "artifacts").as_uri())


class MLflow:
    """See Tracker. `artifacts` is the address of a new experiment's files; None is the server's."""

    def __init__(self, client: MlflowClient, name: str, artifacts: str | None) -> None:
        self._client = client
        found = client.get_experiment_by_name(name)
        self._experiment: str = (
            found.experiment_id if found else client.create_experiment(name, artifacts)
        )

    def add_run(self, name: str, config: Values, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        run_id = self._client.create_run(self._experiment, run_name=name).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in config.items()]
        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, 0) for key, value in scores.items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
        self._client.log_batch(run_id, metrics=metrics)
        self._client.set_terminated(run_id)

    def add_report(self, page: Path, summary: str) -> None:
        """See Tracker."""
        run_id = self._client.create_run(self._experiment, run_name="report").info.run_id
        self._client.log_artifact(run_id, str(page))
        self._client.log_text(run_id, summary, "report.txt")
        self._client.set_terminated(run_id)

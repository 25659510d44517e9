"""TensorBoard: one folder per run in <grid>/tensorboard; see them with `tensorboard --logdir`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from trainer.tracking.tracker import Values


def open_for(root: Path) -> TensorBoard:
    """The tracker for the grid in `root`."""
    return TensorBoard(root / "tensorboard")


class TensorBoard:
    """See Tracker. TensorBoard shows no pages, so of the report it gets the text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add_run(self, name: str, config: Values, scores: Mapping[str, float]) -> None:
        """See Tracker: a row among the hyper-parameters, and a scalar for each score."""
        with SummaryWriter(str(self._folder / name)) as writer:
            writer.add_hparams(dict(config), dict(scores), run_name=".")

    def add_report(self, page: Path, summary: str) -> None:
        """See Tracker."""
        with SummaryWriter(str(self._folder / "report")) as writer:
            writer.add_text("report", f"{page}\n\n```\n{summary}\n```")

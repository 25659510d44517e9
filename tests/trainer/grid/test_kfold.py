"""Learning rates chosen by cross-validation inside the real training images.

Covers: trainer.training.tuning.folds.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.config import GridConfig
from trainer.errors import DataError
from trainer.grid import kfold, run_grid
from trainer.training.tuning.folds import Folds


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        ratios=(0.0, 1.0),
        seeds=1,
        image_size_px=32,
        updates=2,
        quick=True,
        device="cpu",
        budgets=("updates",),
        validation="kfold",
    )


def test_all_cells_train_with_the_rate_that_is_best_out_of_fold(
    config: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {}

    def score(folds: Folds, training: object, **_: object) -> float:
        rate = training.learning_rate  # type: ignore[attr-defined]
        scores[rate] = 0.5 if len(scores) == 2 else 0.4  # the third is the best
        return scores[rate]

    monkeypatch.setattr(Folds, "score", score)
    grid = run_grid(config)
    best = list(scores)[2]
    own = config.training_for("cnn", train_images=18).learning_rate
    assert best == pytest.approx(3 * own)
    assert {run.config["training"]["learning_rate"] for run in grid.runs} == {best}
    assert grid.info["models"]["cnn"]["training"]["learning_rate"] == best
    (entry,) = json.loads((Path(config.out) / "kfold.json").read_text(encoding="utf-8")).values()
    assert sorted(entry["macro_f1"].values()) == [0.4, 0.4, 0.5]


def test_a_grid_holds_no_image_out_and_an_extended_one_keeps_its_rates_and_runs(
    config: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = run_grid(config).runs
    assert {run.metrics["validation_images"] for run in runs} == {0}
    assert {run.metrics["real_images"] for run in runs} == {18}
    first = {run.run_id for run in runs}

    def never(*_: object, **__: object) -> float:
        raise AssertionError("chosen before")

    monkeypatch.setattr(Folds, "score", never)
    assert first < {run.run_id for run in run_grid(replace(config, arms=("fewer:0.5",))).runs}


def test_too_few_images_for_the_folds_are_named(config: GridConfig, real: Path) -> None:
    for path in sorted((real / "train" / "circle").iterdir())[kfold.FOLDS - 1 :]:
        path.unlink()
    with pytest.raises(DataError, match="class 'circle' has 2 training images for 3 folds"):
        run_grid(replace(config, ratios=(0.0,)))

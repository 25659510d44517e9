"""From a grid's options to its runs: which there are, in which order, and how long each trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.arms import parse_arm
from trainer.config import GridConfig, TrainingConfig
from trainer.data.dataset import Dataset, load_dataset
from trainer.grid.planning import cell_training, plan_runs, run_entry, training_configs

BASELINE = TrainingConfig(updates=12)


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        ratios=(0.0, 1.0),
        seeds=2,
    )


@pytest.fixture
def dataset(real: Path, synthetic: Path) -> Dataset:
    return load_dataset(real, synthetic)


@pytest.mark.parametrize(
    ("budget", "times", "updates"),
    [
        ("updates", 2.0, 12),
        ("both", 1.0, 12),
        ("epochs", 2.0, 24),
        ("epochs", 0.125, 2),
        ("epochs", 0.001, 1),
    ],
)
def test_only_the_budget_of_epochs_scales_the_updates(
    budget: str, times: float, updates: int
) -> None:
    found = cell_training(BASELINE, parse_arm("add:1"), budget, times)
    assert (found.updates, found.augment) == (updates, "none")


def test_only_the_arm_augment_changes_the_augmentation() -> None:
    assert cell_training(BASELINE, parse_arm("augment"), "both", 1.0).augment == "standard"
    assert cell_training(BASELINE, parse_arm("swap:0.5"), "both", 1.0) == BASELINE


def test_runs_are_ordered_by_arm_budget_and_seed_and_the_baseline_is_planned_once(
    config: GridConfig, dataset: Dataset
) -> None:
    runs = plan_runs(config, dataset, training_configs(config, dataset, {}), {})
    cells = [(run.config.arm, run.config.budget, run.config.seed) for run in runs]
    added = [("add:1", budget, seed) for budget in ("updates", "epochs") for seed in (0, 1)]
    assert cells == [("real", "both", 0), ("real", "both", 1), *added]
    assert len({run.run_id for run in runs}) == 6
    entry = run_entry(runs[2].config, dataset.sources)
    assert entry["run_id"] == runs[2].run_id
    assert (entry["regime"], entry["ratio"], entry["source"]) == ("add", 1.0, "synthetic")


def test_planning_again_gives_the_same_runs(config: GridConfig, dataset: Dataset) -> None:
    training = training_configs(config, dataset, {})
    assert plan_runs(config, dataset, training, {}) == plan_runs(config, dataset, training, {})

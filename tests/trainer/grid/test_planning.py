"""From a grid's options to its runs: which there are, in which order, and how long each trains."""

from __future__ import annotations

from dataclasses import replace
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


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("augment:crop", {"augment": "crop"}),
        ("augment:none", {"augment": "none"}),
        ("augment:mixup", {"mixup": 0.2}),
        ("add:1+augment:cutmix", {"cutmix": 1.0}),
        ("add:1+augment", {"augment": "standard"}),
        ("add:1", {}),
    ],
)
def test_an_arm_changes_what_it_names_and_nothing_else(
    arm: str, changes: dict[str, object]
) -> None:
    found = cell_training(replace(BASELINE, augment="rand"), parse_arm(arm), "updates", 2.0)
    assert found == replace(BASELINE, **{"augment": "rand", **changes})  # type: ignore[arg-type]


def test_mixing_is_left_out_for_a_frozen_model_which_sees_whole_images(
    config: GridConfig, dataset: Dataset
) -> None:
    both = replace(config, models=("cnn", "resnet18"), arms=("augment:cutmix",), seeds=1)
    runs = plan_runs(both, dataset, training_configs(both, dataset, {}), {})
    arms = {(run.config.model, run.config.arm) for run in runs}
    assert ("cnn", "augment:cutmix") in arms
    assert ("resnet18", "augment:cutmix") not in arms


def test_an_arm_with_another_augmentation_is_a_regime_of_its_own(
    config: GridConfig, dataset: Dataset
) -> None:
    changed = replace(config, arms=("add:1+augment:rand",), seeds=1)
    runs = plan_runs(changed, dataset, training_configs(changed, dataset, {}), {})
    regimes = [run_entry(run.config, dataset.sources)["regime"] for run in runs]
    assert list(dict.fromkeys(regimes)) == ["real", "add", "add+augment:rand"]


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

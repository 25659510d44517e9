"""Tuning sees real training images only, never does worse than the defaults on them, and goes on
after a kill.

Covers: trainer.commands.tune.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainer.config import HEADS
from trainer.data.dataset import load_dataset
from trainer.errors import ConfigError, DataError
from trainer.training.batches.inputs import ModelInputs
from trainer.training.tuning.folds import Folds
from trainer.training.tuning.tune import TuneConfig, tune

optuna = pytest.importorskip("optuna")
NUMBERS = {"learning_rate", "weight_decay", "batch_size"}


@pytest.fixture
def config(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TuneConfig:
    monkeypatch.setattr("trainer.config.grid._QUICK_UPDATES", 2)
    return TuneConfig(
        str(real),
        str(tmp_path / "tuned.json"),
        trials=2,
        folds=2,
        image_size_px=32,
        quick=True,
        device="cpu",
    )


def test_the_best_trial_is_at_least_as_good_as_the_defaults(config: TuneConfig, real: Path) -> None:
    found = tune(config)
    values = json.loads(Path(config.out).read_text(encoding="utf-8"))
    assert found.score >= found.default_score > 0
    assert values["training"] == found.training
    assert found.recipe == values["recipe"] == "modern"
    assert set(found.training) == {*NUMBERS, "augment", "mirror", "mixup"}
    assert values["images"] == sorted(each.sha256 for each in load_dataset(real, None).train)


def test_tuning_does_not_depend_on_the_test_images(
    config: TuneConfig, real: Path, tmp_path: Path
) -> None:
    first = tune(config)
    for folder in (real / "test").iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    assert tune(replace(config, out=str(tmp_path / "again.json"))).training == first.training


def test_a_test_image_among_the_training_images_is_refused(config: TuneConfig, real: Path) -> None:
    shutil.copy(real / "test" / "circle" / "000.png", real / "train" / "circle" / "copy.png")
    with pytest.raises(DataError, match=r"circle/copy\.png = test/circle/000\.png"):
        tune(config)
    assert not Path(config.out).exists()


def test_the_same_command_again_runs_only_the_missing_trials(
    config: TuneConfig, tmp_path: Path
) -> None:
    tune(replace(config, trials=1))
    assert tune(config).trials == 2
    before = (tmp_path / "tuned.json").read_bytes()
    assert tune(config).trials == 2
    assert (tmp_path / "tuned.json").read_bytes() == before


def test_the_weight_decay_keeps_the_name_that_studies_have_for_it(
    config: TuneConfig, tmp_path: Path
) -> None:
    """A study from before the field was renamed goes on: its trials have the parameter `l2`."""
    found = tune(replace(config, recipe="classic", trials=1))
    storage = f"sqlite:///{tmp_path / 'tuned.study.db'}"
    study = optuna.load_study(study_name="synthgrid", storage=storage)
    assert all("l2" in trial.params for trial in study.trials)
    assert found.training["weight_decay"] == study.best_params["l2"]
    assert set(found.training) == {*NUMBERS, "augment"}


def test_every_recipe_is_tried_with_its_own_numbers_first(
    config: TuneConfig, tmp_path: Path
) -> None:
    found = tune(replace(config, recipe="any", trials=2))
    study = optuna.load_study(
        study_name="synthgrid", storage=f"sqlite:///{tmp_path / 'tuned.study.db'}"
    )
    first, second = study.trials[:2]
    assert [first.params["recipe"], second.params["recipe"]] == ["modern", "classic"]
    own = config.grid().training_for("cnn", train_images=18)
    assert first.params["learning_rate"] == own.learning_rate
    assert first.params["kind"] == own.augment == "trivial"
    assert second.params["augment"] == "none"
    assert found.recipe in ("modern", "classic")


def test_a_study_of_another_recipe_is_not_mixed_up(config: TuneConfig) -> None:
    tune(replace(config, trials=1))
    with pytest.raises(ConfigError, match=r"another study \(recipe modern -> any\)"):
        tune(replace(config, recipe="any", trials=2))


def test_no_trial_starts_after_the_minutes_are_over(config: TuneConfig) -> None:
    assert tune(replace(config, trials=50, minutes=0.01)).trials < 50


def test_minutes_that_are_over_before_any_trial_are_told(config: TuneConfig) -> None:
    with pytest.raises(ConfigError, match=r"no trial began within 1e-09 minutes"):
        tune(replace(config, minutes=1e-9))
    assert not Path(config.out).exists()


def test_a_frozen_model_is_tuned_over_heads_too(config: TuneConfig) -> None:
    found = tune(
        replace(config, model="resnet18", allow_untrained=True, image_size_px=32, trials=3)
    )
    assert found.training["head"] in HEADS
    assert ("learning_rate" in found.training) == (found.training["head"] == "linear")


def test_a_trial_that_was_killed_is_not_counted(config: TuneConfig, tmp_path: Path) -> None:
    tune(replace(config, trials=1))
    study = optuna.load_study(
        study_name="synthgrid", storage=f"sqlite:///{tmp_path / 'tuned.study.db'}"
    )
    study.ask()  # a trial that nobody finishes
    assert tune(config).trials == 2


def test_a_study_of_other_images_is_not_mixed_up(
    config: TuneConfig, real: Path, make_shapes: Callable[..., Path]
) -> None:
    tune(replace(config, trials=1))
    make_shapes(real / "train", per_class=7, seed=5)
    with pytest.raises(
        ConfigError, match=r"tuned\.study\.db belongs to another study \(data_fingerprint"
    ):
        tune(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"recipe": "best"}, "recipe 'best' is unknown"),
        ({"minutes": 0}, "minutes is 0"),
        ({"folds": 1}, "folds is 1"),
        ({"out": "tuned"}, "must name a .json file"),
        ({"model": "cmm"}, "cmm"),
        ({"real": "photos", "out": "photos/train/tuned.json"}, "among the images of photos/train"),
    ],
)
def test_mistakes_are_named(config: TuneConfig, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)  # type: ignore[arg-type]


def test_a_checkpoint_is_chosen_on_whole_groups(real: Path) -> None:
    samples = load_dataset(real, None).train
    paired = [replace(each, group=f"{each.label}{int(each.path.stem) // 2}") for each in samples]
    labels = torch.tensor([("circle", "cross", "square").index(each.label) for each in paired])
    rows, cpu = torch.arange(len(paired)), torch.device("cpu")
    inputs = ModelInputs(torch.zeros(len(paired), 1), {})
    folds = Folds("cnn", 32, 3, inputs, rows, labels, [], 0, cpu, paired, inner=True)
    kept, out = folds._checkpoint_split(rows.numpy())
    assert sorted([*kept, *out]) == rows.tolist()
    assert set(labels[out].tolist()) == {0, 1, 2}
    assert not set(folds.groups[kept].tolist()) & set(folds.groups[out].tolist())
    alone = [each for each in range(len(paired)) if int(paired[each].path.stem) < 2]
    assert [part.tolist() for part in folds._checkpoint_split(rows[alone].numpy())] == [alone] * 2


def test_too_few_images_for_the_folds_are_counted(config: TuneConfig) -> None:
    with pytest.raises(DataError, match=r"has 6 training images for 7 folds"):
        tune(replace(config, folds=7))

"""Tuned hyper-parameters hold in every cell, and none were chosen on a test image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.config import GridConfig
from trainer.data.dataset import load_dataset
from trainer.errors import ConfigError
from trainer.grid.grid import run_grid
from trainer.grid.planning import training_configs
from trainer.training.tuning.tuned import read_tuned, refuse_test_images

TRAINING = {"learning_rate": 0.002, "weight_decay": 0.0, "batch_size": 8}


def write(path: Path, real: Path, **change: Any) -> str:
    used = [sample.sha256 for sample in load_dataset(real, None).train]
    values = {
        "model": "cnn",
        "training": TRAINING,
        "images": used,
        "study": {"trials": 9},
        "data_fingerprint": "f",
    }
    path.write_text(json.dumps({**values, **change}), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        recipe="classic",
        ratios=(0.0, 1.0),
        seeds=1,
        image_size_px=32,
        updates=4,
        device="cpu",
        tuned=(write(tmp_path / "tuned.json", real),),
    )


def test_every_cell_trains_with_what_was_tuned(config: GridConfig) -> None:
    grid = run_grid(config)
    for run in grid.runs:
        assert {name: run.config["training"][name] for name in TRAINING} == TRAINING
    assert grid.info["models"]["cnn"]["tuned"] == {
        "file": "tuned.json",
        "study": {"trials": 9},
        "data_fingerprint": "f",
    }


def test_a_file_that_calls_the_weight_decay_l2_is_still_accepted(
    real: Path, tmp_path: Path
) -> None:
    old = write(tmp_path / "old.json", real, training={"l2": 0.25, "precision": "float32"})
    training = read_tuned([old], models=("cnn",))["cnn"].training
    assert training == {"weight_decay": 0.25, "dtype": "float32"}


def test_a_file_tuned_on_a_test_image_is_refused_before_anything_is_written(
    config: GridConfig, real: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(real, None)
    used = [dataset.train[0].sha256, dataset.test[3].sha256]
    with pytest.raises(ConfigError, match=r"tuned on 1 test images, circle/003.png among them"):
        run_grid(replace(config, tuned=(write(tmp_path / "t.json", real, images=used),)))
    assert not Path(config.out).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet50"}, "is for model resnet50; the grid trains cnn"),
        ({"model": "cnnn"}, "model 'cnnn' is unknown"),
        (
            {"training": {"learning": 1}},
            "tunes 'learning', which is not a hyper-parameter; known: augment",
        ),
        ({"training": 3}, "is not a file of tuned hyper-parameters"),
        ({"images": []}, "does not list the images it was tuned on"),
        ({"images": None}, "is not a file of tuned hyper-parameters"),
    ],
)
def test_a_file_that_does_not_fit_says_why(
    real: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_tuned([write(tmp_path / "t.json", real, **change)], models=("cnn",))
    assert "\n" not in str(caught.value)


def test_two_files_for_one_model_are_refused(real: Path, tmp_path: Path) -> None:
    paths = [write(tmp_path / name, real) for name in ("a.json", "b.json")]
    with pytest.raises(ConfigError, match="are both for model cnn"):
        read_tuned(paths, models=("cnn",))


def test_what_is_tuned_cannot_be_asked_for_as_well(config: GridConfig, real: Path) -> None:
    dataset, tuned = (
        load_dataset(real, Path(str(config.synthetic))),
        read_tuned(config.tuned, models=("cnn",)),
    )
    refuse_test_images(tuned.values(), dataset.test)
    with pytest.raises(
        ConfigError, match="weight_decay of cnn is both given as an option and tuned"
    ):
        training_configs(replace(config, weight_decay=0.1), dataset, tuned)


def test_a_model_tuned_to_be_augmented_has_no_arm_augment(
    config: GridConfig, real: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.json", real, training={"augment": "standard"})
    with pytest.raises(ConfigError, match="arm 'augment' is the same as the baseline for cnn"):
        run_grid(replace(config, arms=("augment",), tuned=(path,)))

"""Configs are checked when they are made.

Covers: trainer.config.draws, trainer.config.fields, trainer.config.folders, trainer.config.grid,
trainer.config.machine, trainer.config.run.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.config import GridConfig, RunConfig, TrainingConfig, read_json
from trainer.errors import ConfigError

BASE = {"real": "r", "out": "o", "synthetic": "s"}
RUN = RunConfig("cnn", "add:1", "updates", 0, 64, TrainingConfig(), 0.2, ("a", "b"), "data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": [0, 1]}, "unknown field 'ratio'; did you mean 'ratios'"),
        ({"models": ["cnn", "vgg"]}, "model 'vgg' is unknown; did you mean 'vgg16'"),
        ({"models": ["cnn", "cnn"]}, "each model once"),
        ({"models": 3}, "models must be a list"),
        ({"ratios": [1, 2]}, "must rise and start at 0"),
        ({"ratios": [0, 2, 1]}, "must rise and start at 0"),
        ({"ratios": [-1, 0]}, "ratio is -1"),
        ({"ratios": [0, float("nan")]}, "ratio is nan"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": 2.5}, "seeds is 2.5"),
        ({"seeds": "many"}, "seeds is 'many'"),
        ({"seeds": "auto"}, "seeds auto needs the change to find"),
        ({"seeds": "auto", "detect": 2, "quick": True}, "not for quick grids"),
        ({"detect": 0}, "detect is 0"),
        ({"most_seeds": 7}, "most_seeds is 7"),
        ({"looks": [4, 4]}, "looks are 4,4; they must rise"),
        ({"redraw": 0}, "redraw is 0"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"test_share": 0.2, "redraw": 5}, "redraw is not for grids that split anew"),
        ({"test_share": 0.2, "validation": "kfold"}, "validation kfold is not for grids"),
        ({"image_size_px": 16}, "at least 32"),
        ({"updates": 5, "epochs": 5}, "either updates or epochs"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"augment": "flip"}, "augment 'flip' is unknown"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"quick": "yes"}, "quick must be true or false"),
        ({"synthetic": None}, "arm 'add:0.5' needs synthetic images"),
        ({"validation_share": 1.0}, "at most 0.9"),
        ({"synthetic": {"more": "s"}}, "synthetic source 'more' does not have a valid name"),
        ({"synthetic": {"a b": "s"}}, "synthetic source 'a b' does not have a valid name"),
        ({"synthetic": 5}, "must name folders, not 5"),
        ({"more_real": 5}, "must name folders, not 5"),
        ({"synthetic": {"a": "made", "b": None}}, "must name folders, not None"),
        ({"models": "cnn"}, "models must be a list, not 'cnn'"),
        ({"arms": ["add:1"]}, "must include real"),
        ({"arms": ["real", "add:1", "add:1.0"]}, "each arm once"),
        ({"ratios": [0, 1], "arms": ["real"]}, "each arm once"),
        ({"arms": ["real", "add:1@c"]}, "draws from 'c'"),
        ({"arms": ["real", "more:1"]}, "--more-real"),
        (
            {"arms": ["real", "augment"], "augment": "standard"},
            "arm 'augment' is the same as the baseline",
        ),
        ({"budgets": ["hours"]}, "budget 'hours' is unknown"),
        ({"budgets": []}, "each budget once"),
        ({"executor": "slurm"}, "executor 'slurm' is unknown"),
        ({"address": "host:1"}, "add --executor ray"),
        ({"devices": ["gpu0"]}, "devices has 'gpu0'"),
        ({"devices": ["cpu"], "device": "cpu"}, "leave --device and --executor out"),
    ],
)
def test_a_wrong_field_fails_at_once_and_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        GridConfig.from_dict({**BASE, **change})
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="'out'"):
        GridConfig.from_dict({"real": "r"})


def test_a_config_file_must_be_a_json_object(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a list"):
        read_json(tmp_path / "c.json")


def test_a_run_id_is_readable_and_changes_with_anything_that_matters() -> None:
    assert RUN.run_id.startswith("cnn-add-1-updates-seed0-")
    changes: list[dict[str, Any]] = [
        {"training": TrainingConfig(weight_decay=0.1)},
        {"training": TrainingConfig(dtype="float32")},
        {"data_fingerprint": "x"},
        {"weights_fingerprint": "y"},
        {"image_size_px": 32},
    ]
    assert len({replace(RUN, **change).run_id for change in changes} | {RUN.run_id}) == 6


def test_run_ids_are_those_of_before_l2_and_precision_were_renamed() -> None:
    """Computed with the code of before: a finished run keeps its folder."""
    assert RUN.run_id == "cnn-add-1-updates-seed0-e7bc4173"
    training = TrainingConfig(weight_decay=0.1, dtype="float32")
    assert replace(RUN, training=training).run_id == "cnn-add-1-updates-seed0-05a10dc8"


def test_old_names_are_accepted_but_not_beside_the_new_ones() -> None:
    old = GridConfig.from_dict({**BASE, "l2": 0.25, "precision": "float32"})
    assert old == GridConfig.from_dict({**BASE, "weight_decay": 0.25, "dtype": "float32"})
    with pytest.raises(ConfigError, match="'l2' is the old name of 'weight_decay'"):
        GridConfig.from_dict({**BASE, "l2": 0.25, "weight_decay": 0.25})


def test_all_cells_of_a_model_get_the_same_number_of_updates() -> None:
    config = GridConfig.from_dict({**BASE, "recipe": "classic"})
    assert config.training_for("cnn", train_images=340).total_updates(40) == config.training_for(
        "cnn", train_images=340
    ).total_updates(340)
    assert config.training_for("cnn", train_images=5400).updates == 15 * 5400 // 32 + 1
    epochs = replace(config, epochs=3).training_for("cnn", train_images=340, baseline_images=40)
    assert epochs.updates == math.ceil(3 * 40 / 32)


def test_ratios_are_the_short_form_and_arms_come_after_them() -> None:
    names = [
        arm.name
        for arm in GridConfig.from_dict(
            {**BASE, "ratios": [0, 0.5], "arms": ["swap:0.5"]}
        ).used_arms
    ]
    assert names == ["real", "add:0.5", "swap:0.5"]
    assert [arm.name for arm in GridConfig.from_dict(BASE).used_arms] == [
        "real",
        "add:0.5",
        "add:1",
    ]
    assert [arm.name for arm in GridConfig.from_dict({**BASE, "arms": ["real"]}).used_arms] == [
        "real"
    ]


def test_where_passes_are_the_only_budget_the_baseline_sets_the_updates() -> None:
    config = GridConfig.from_dict({**BASE, "recipe": "classic"})
    sizes = {"train_images": 5400, "baseline_images": 2700}
    assert config.training_for("cnn", **sizes).updates == 15 * 5400 // 32 + 1
    assert (
        replace(config, budgets=("epochs",)).training_for("cnn", **sizes).updates
        == 15 * 2700 // 32 + 1
    )


def test_batches_of_one_image_are_for_a_frozen_models_head_alone() -> None:
    frozen = GridConfig.from_dict({**BASE, "models": ["resnet18"], "batch_size": 1})
    assert frozen.training_for("resnet18", train_images=10).batch_size == 1
    for model in ("cnn", "resnet18:scratch", "resnet18:finetune"):
        with pytest.raises(ConfigError, match=f"batch_size is 1; {model} needs at least 2"):
            GridConfig.from_dict({**BASE, "models": [model], "batch_size": 1})

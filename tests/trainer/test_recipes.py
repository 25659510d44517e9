"""Recipes: what each says for every kind of model, and that grids keep it in every cell.

Covers: trainer.config.recipes, trainer.training.compute.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trainer.config import RECIPES, GridConfig, TrainingConfig
from trainer.errors import ConfigError
from trainer.models.registry import MODELS, MODES, model_spec

BASE = GridConfig("r", "o", "s", models=("cnn",))
SIZES = {"train_images": 600, "baseline_images": 300}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_every_recipe_has_valid_choices_for_every_model_in_every_mode(
    recipe: str, mode: str, name: str
) -> None:
    schedule = RECIPES[recipe].schedule(model_spec(f"{name}:{mode}"))
    config = TrainingConfig(**{**schedule.training, "updates": schedule.min_updates})
    assert schedule.passes > 0
    assert (config.keep == "best") == RECIPES[recipe].keeps_best


def test_classic_is_what_was_before_there_were_recipes() -> None:
    for name in ("cnn", "resnet50", "resnet50:finetune", "vit_b_16:scratch"):
        spec = model_spec(name)
        config = replace(BASE, models=(name,), recipe="classic", updates=9)
        assert config.training_for(spec.name, **SIZES) == TrainingConfig(**spec.training, updates=9)
        assert config.held_out_share == 0.2


def test_modern_fixes_the_updates_by_the_real_images_so_that_a_grid_can_be_extended() -> None:
    extended = replace(BASE, ratios=(0.0, 6.0))
    found = [
        each.training_for("cnn", train_images=images, baseline_images=3000)
        for each, images in ((BASE, 6000), (extended, 21000))
    ]
    assert found[0] == found[1]
    assert found[0].updates == 60 * 3000 // 32
    assert BASE.training_for("cnn", train_images=20).updates == 1200


def test_modern_holds_no_image_out_and_keeps_the_last_weights() -> None:
    found = BASE.training_for("cnn", **SIZES)
    assert (BASE.used_validation, BASE.held_out_share, found.keep) == ("none", 0.0, "last")


@pytest.mark.parametrize(("held_out", "keep"), [(19, "last"), (20, "best")])
def test_a_checkpoint_is_chosen_on_no_fewer_than_20_images_per_class(
    held_out: int, keep: str
) -> None:
    config = replace(BASE, validation="holdout")
    assert config.training_for("cnn", **SIZES, held_out=held_out).keep == keep


@pytest.mark.parametrize("validation", ["none", "kfold"])
def test_classic_without_validation_images_is_refused(validation: str) -> None:
    with pytest.raises(ConfigError, match=f"chooses a checkpoint .* --validation {validation}"):
        replace(BASE, recipe="classic", validation=validation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "moderm"}, "recipe 'moderm' is unknown"),
        ({"validation": "some"}, "validation 'some' is unknown"),
        ({"head": "svm", "models": ("resnet18",)}, "head 'svm' is unknown"),
        ({"mirror": "no"}, "mirror must be true or false"),
        (
            {"arms": ("real", "augment:trivial")},
            "'augment:trivial' is the same as the baseline",
        ),
        (
            {"arms": ("real", "add:1+augment:mixup")},
            "the same as 'add:1' for cnn, which has mixup",
        ),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(BASE, **change)


def test_a_frozen_model_gets_a_logistic_head_and_others_none() -> None:
    config = replace(BASE, models=("cnn", "resnet18"), head=None)
    assert config.training_for("resnet18", **SIZES).head == "logistic"
    assert config.training_for("cnn", **SIZES).head == "linear"
    knn = replace(config, head="knn")
    assert knn.training_for("resnet18", **SIZES).head == "knn"
    assert knn.training_for("cnn", **SIZES).head == "linear"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("warmup", 1.0),
        ("start_share", 1.0),
        ("label_smoothing", -0.1),
        ("average", 0.95),
        ("mixup", -1.0),
        ("head_rate", 0.0),
        ("head_penalty", -1.0),
        ("retries", 11),
        ("optimiser", "lion"),
        ("keep", "first"),
        ("head_first", 1),
    ],
)
def test_a_choice_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        TrainingConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["start_share", "head_penalty"])
def test_what_concerns_the_start_needs_a_head_that_was_fitted_first(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} is for fine-tuning; set head_first"):
        TrainingConfig(**{field: 0.25})  # type: ignore[arg-type]
    config = TrainingConfig(**{field: 0.25}, head_first=True)  # type: ignore[arg-type]
    assert getattr(config, field) == 0.25

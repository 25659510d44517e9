"""From a grid's options and images to its runs, before anything is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainer.arms import BASELINE, Arm, parse_arm, resolved_source
from trainer.config import GridConfig, RunConfig, TrainingConfig
from trainer.data.cells import cell_images
from trainer.data.dataset import Dataset
from trainer.data.splits.redraw import redrawn, resplit
from trainer.models.weights import Weights
from trainer.training.run import PlannedRun
from trainer.training.tuning.tuned import TunedHyperparameters

logger = logging.getLogger(__name__)


def plan_runs(
    config: GridConfig,
    dataset: Dataset,
    training: Mapping[str, TrainingConfig],
    weights: Mapping[str, Weights],
) -> list[PlannedRun]:
    """Every run of the grid, ordered by model, arm, budget and seed. `training` has each model's
    baseline."""
    draws = {
        (arm, seed): cell_images(images, arm=arm, seed=seed, validation_share=config.held_out_share)
        for seed in config.used_seeds
        for images in [images_of_seed(config, dataset, seed)]
        for arm in config.used_arms
    }
    planned = []
    for model in config.models:
        for arm in config.used_arms:
            if not config.applies(arm, model):
                logger.warning("arm %s is left out for %s: it mixes pixels", arm.name, model)
                continue
            for budget in config.budgets_of(arm):
                for seed in config.used_seeds:
                    images, baseline = draws[arm, seed], draws[Arm(BASELINE), seed]
                    run = RunConfig(
                        model=model,
                        arm=arm.name,
                        budget=budget,
                        seed=seed,
                        image_size_px=config.image_size_for(model),
                        training=cell_training(
                            training[model],
                            arm,
                            budget,
                            len(images.train) / len(baseline.train),
                            synthetic_weight=config.synthetic_weight,
                        ),
                        validation_share=config.held_out_share,
                        classes=dataset.classes,
                        data_fingerprint=images.fingerprint,
                        weights=weights[model].source if model in weights else "",
                        weights_fingerprint=weights[model].fingerprint if model in weights else "",
                    )
                    planned.append(PlannedRun(run, images))
    return planned


def images_of_seed(config: GridConfig, dataset: Dataset, seed: int) -> Dataset:
    """The images that the cells of one seed share: all, or those that the seed draws."""
    if config.test_share is not None:
        return resplit(dataset, config.test_share, seed=seed)
    if config.used_redraw is None:
        return dataset
    return redrawn(dataset, config.used_redraw, seed=seed)


def training_configs(
    config: GridConfig, dataset: Dataset, tuned: Mapping[str, TunedHyperparameters]
) -> dict[str, TrainingConfig]:
    """Each model's hyper-parameters in the baseline, from which those of all other cells are
    derived.

    Raises:
        ConfigError: tuned values are out of range, or make an arm the same as the baseline.
    """
    dataset = images_of_seed(config, dataset, 0)
    cells = {
        arm.name: cell_images(dataset, arm=arm, seed=0, validation_share=config.held_out_share)
        for arm in config.used_arms
    }
    held = [sample.label for sample in cells[BASELINE].validation]
    found = {
        model: config.training_for(
            model,
            train_images=max(len(cell.train) for cell in cells.values()),
            baseline_images=len(cells[BASELINE].train),
            held_out=min(held.count(label) for label in dataset.classes),
            tuned=tuned[model].training if model in tuned else None,
        )
        for model in config.models
    }
    for model, training in found.items():
        config.check_changes(model, training)
    return found


def cell_training(
    baseline: TrainingConfig, arm: Arm, budget: str, times: float, *, synthetic_weight: float = 1.0
) -> TrainingConfig:
    """A cell's hyper-parameters: the baseline's, but with budget "epochs" `times` as many
    updates."""
    training = baseline.changed_by(arm, synthetic_weight=synthetic_weight)
    if budget != "epochs" or training.updates is None:
        return training
    return replace(training, updates=max(1, math.floor(times * training.updates + 0.5)))


def run_entry(run: RunConfig, sources: Sequence[str]) -> dict[str, object]:
    """A run's line in grid.json."""
    arm = parse_arm(run.arm)
    return {
        "run_id": run.run_id,
        "model": run.model,
        "arm": arm.name,
        "regime": arm.group,
        "ratio": arm.amount,
        "source": resolved_source(arm, sources),
        "budget": run.budget,
        "seed": run.seed,
    }

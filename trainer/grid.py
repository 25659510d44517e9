"""A grid: every model, arm, budget and seed trained once, each into a run folder of its own.

load -> check -> plan -> prepare inputs -> train what is not done -> report
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from trainer.cells import check_counts
from trainer.config import GridConfig, TrainingConfig
from trainer.data import Dataset, load_dataset
from trainer.engine import pick_device, pick_precision
from trainer.executors import Executor, executor_for
from trainer.features import prepare_inputs
from trainer.lock import grid_locked, refuse_unfinished
from trainer.mistakes import write_mistakes
from trainer.models import model_spec
from trainer.planning import plan_runs, run_entry, training_configs
from trainer.progress import Progress
from trainer.runs import (
    GRID_FILE,
    SAMPLES_FILE,
    Grid,
    clear_unfinished,
    is_done,
    read_grid,
    to_json,
    write_file,
    write_run,
)
from trainer.samples import contact_sheet
from trainer.torchvision_data import real_folder
from trainer.training import PlannedRun, versions
from trainer.tuned import Tuned, read_tuned, refuse_test_images
from trainer.weights import Weights, find_weights, given_weights

logger = logging.getLogger(__name__)


def run_grid(config: GridConfig) -> Grid:
    """Trains whatever of the grid is not done yet, and returns all of it as read back from disk.

    All input is checked before anything is trained. A run that fails leaves error.txt and the rest go on.

    Raises:
        TrainerError: the data, the configuration or the weights make no grid.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA is deterministic with it only
    if config.threads:
        torch.set_num_threads(config.threads)
    out, device = Path(config.out), pick_device(config.device)
    pick_precision(config.precision, device)  # refuses what the device cannot do
    executor = executor_for(config, device)
    for folder in config.sources.values():
        refuse_unfinished(Path(folder))
    dataset = load_dataset(
        real_folder(config.real),
        {name: Path(folder) for name, folder in config.sources.items()},
        more=Path(config.more_real) if config.more_real is not None else None,
        limit_per_class=config.limit_per_class,
    )
    check_counts(dataset, config.used_arms, validation_share=config.validation_share)
    given = given_weights(config.weights, config.models)
    weights = {
        model: find_weights(model, given=given.get(model), allow_untrained=config.allow_untrained)
        for model in config.models
        if model_spec(model).pretrained
    }
    tuned = read_tuned(config.tuned, models=config.models)
    refuse_test_images(tuned.values(), dataset.test)
    training = training_configs(config, dataset, tuned)
    planned = plan_runs(config, dataset, training, weights)
    with grid_locked(out):
        _write_grid_files(out, _grid_info(config, dataset, training, tuned, weights, planned, device), dataset)
        pending = [run for run in planned if not is_done(out, run.run_id)]
        logger.info("%d runs: %d done before, %d to train", len(planned), len(planned) - len(pending), len(pending))
        if pending:
            _train_all(pending, executor, out=out, weights=weights, device=device)
        grid = read_grid(out)
        write_mistakes(out, dataset, grid)
        return grid


def _train_all(
    pending: Sequence[PlannedRun],
    executor: Executor,
    *,
    out: Path,
    weights: Mapping[str, Weights],
    device: torch.device,
) -> None:
    inputs = prepare_inputs(
        {
            model: [each for run in pending if run.config.model == model for each in run.needed_samples]
            for model in dict.fromkeys(run.config.model for run in pending)
        },
        sizes_px={run.config.model: run.config.image_size_px for run in pending},
        weights=weights,
        cache=out / "features",
        device=device,
    )
    with Progress("runs", total=len(pending), unit="runs") as progress:
        for run, files in executor.finished(pending, inputs):
            write_run(out, run.run_id, files)
            progress.advance(note=run.run_id)


def _write_grid_files(out: Path, info: dict[str, object], dataset: Dataset) -> None:
    """Everything about the grid that its runs do not hold, written before training so that a kill loses nothing."""
    sheet, layout = contact_sheet(dataset)
    clear_unfinished(out)
    write_file(out / SAMPLES_FILE, sheet)
    write_file(out / GRID_FILE, to_json({**info, "samples": layout.to_dict()}))


def _grid_info(
    config: GridConfig,
    dataset: Dataset,
    training: Mapping[str, TrainingConfig],
    tuned: Mapping[str, Tuned],
    weights: Mapping[str, Weights],
    planned: Sequence[PlannedRun],
    device: torch.device,
) -> dict[str, object]:
    """What grid.json holds."""
    return {
        "config": asdict(config),
        "classes": dataset.classes,
        "images_per_class": dataset.images_per_class(),
        "fingerprints": dataset.fingerprints(),
        "test_images_also_trained_on": dataset.leaked(),
        "models": {
            model: {
                "title": model_spec(model).title,
                "noun": model_spec(model).noun,
                "frozen": model_spec(model).frozen,
                "weights": weights[model].source if model in weights else "",
                "weights_fingerprint": weights[model].fingerprint if model in weights else "",
                "image_size_px": config.image_size_for(model),
                "training": asdict(training[model]),
                "tuned": tuned[model].to_dict() if model in tuned else None,
            }
            for model in config.models
        },
        "device": str(device),
        "versions": versions(),
        "arms": [arm.name for arm in config.used_arms],
        "sources": dict(config.sources),
        "runs": [run_entry(run.config, dataset.sources) for run in planned],
    }

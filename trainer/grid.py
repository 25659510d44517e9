"""A grid: every model, arm, budget and seed trained once, each into a run folder of its own.

load -> check -> plan -> prepare inputs -> train what is not done -> report
"""

from __future__ import annotations

import logging
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from trainer.arms import BASELINE, Arm, parse_arm, resolved_source
from trainer.cells import CellImages, cell_images, check_counts
from trainer.config import GridConfig, RunConfig, TrainingConfig
from trainer.copies import COPY
from trainer.data import MORE, Dataset, Sample, load_dataset
from trainer.engine import Fit, Labelled, Standardise, deterministic, fit, pick_device, predict
from trainer.errors import RunError
from trainer.features import ModelInputs, prepare_inputs
from trainer.metrics import classification_metrics
from trainer.models import MODELS, model_spec
from trainer.progress import Progress
from trainer.runs import (
    DONE,
    ERROR_FILE,
    GRID_FILE,
    SAMPLES_FILE,
    Grid,
    clear_unfinished,
    is_done,
    read_grid,
    to_csv,
    to_json,
    write_file,
    write_run,
)
from trainer.samples import contact_sheet
from trainer.weights import Weights, find_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """One run and the images it uses."""

    config: RunConfig
    images: CellImages

    @property
    def run_id(self) -> str:
        """The run's name and folder."""
        return self.config.run_id


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
    dataset = load_dataset(
        Path(config.real),
        {name: Path(folder) for name, folder in config.sources.items()},
        more=Path(config.more_real) if config.more_real is not None else None,
        limit_per_class=config.limit_per_class,
    )
    check_counts(dataset, config.used_arms, validation_share=config.validation_share)
    weights = {
        model: find_weights(
            model, given=Path(config.weights) if config.weights else None, allow_untrained=config.allow_untrained
        )
        for model in config.models
        if model_spec(model).frozen
    }
    planned = plan_runs(config, dataset, weights)
    _write_grid_files(out, config, dataset, weights, planned, device)
    pending = [run for run in planned if not is_done(out, run.run_id)]
    logger.info("%d runs: %d done before, %d to train", len(planned), len(planned) - len(pending), len(pending))
    if pending:
        _train_all(pending, out=out, weights=weights, device=device)
    return read_grid(out)


def plan_runs(config: GridConfig, dataset: Dataset, weights: Mapping[str, Weights]) -> list[PlannedRun]:
    """Every run of the grid: by model, then arm, then budget, then seed."""
    draws = {
        (arm, seed): cell_images(dataset, arm=arm, seed=seed, validation_share=config.validation_share)
        for arm in config.used_arms
        for seed in config.used_seeds
    }
    training = training_configs(config, dataset)
    planned = []
    for model in config.models:
        for arm in config.used_arms:
            for budget in config.budgets_of(arm):
                for seed in config.used_seeds:
                    images, baseline = draws[arm, seed], draws[Arm(BASELINE), seed]
                    run = RunConfig(
                        model=model,
                        arm=arm.name,
                        budget=budget,
                        seed=seed,
                        image_size_px=config.image_size_for(model),
                        training=cell_training(training[model], arm, budget, len(images.train) / len(baseline.train)),
                        validation_share=config.validation_share,
                        classes=dataset.classes,
                        data_fingerprint=images.fingerprint(),
                        weights=weights[model].source if model in weights else "",
                        weights_fingerprint=weights[model].fingerprint if model in weights else "",
                    )
                    planned.append(PlannedRun(run, images))
    return planned


def training_configs(config: GridConfig, dataset: Dataset) -> dict[str, TrainingConfig]:
    """Each model's hyper-parameters in the baseline, which those of all other cells follow from."""
    counts = {
        arm.name: len(cell_images(dataset, arm=arm, seed=0, validation_share=config.validation_share).train)
        for arm in config.used_arms
    }
    return {
        model: config.training_for(model, train_images=max(counts.values()), baseline_images=counts[BASELINE])
        for model in config.models
    }


def cell_training(baseline: TrainingConfig, arm: Arm, budget: str, times: float) -> TrainingConfig:
    """A cell's hyper-parameters: the baseline's, and in budget "epochs" `times` as many updates for so many images."""
    augment = "standard" if arm.regime == "augment" else baseline.augment
    if budget != "epochs" or baseline.updates is None:
        return replace(baseline, augment=augment)
    return replace(baseline, augment=augment, updates=max(1, math.floor(times * baseline.updates + 0.5)))


def _train_all(
    pending: Sequence[PlannedRun], *, out: Path, weights: Mapping[str, Weights], device: torch.device
) -> None:
    inputs = prepare_inputs(
        {
            model: [each for run in pending if run.config.model == model for each in (*run.images.train, *run.images.validation, *run.images.test)]
            for model in dict.fromkeys(run.config.model for run in pending)
        },
        sizes_px={run.config.model: run.config.image_size_px for run in pending},
        weights=weights,
        cache=out / "features",
        device=device,
    )  # fmt: skip
    with deterministic(), Progress("runs", total=len(pending), unit="runs") as progress:
        for run in pending:
            _train_one(run, inputs[run.config.model], out=out, device=device)
            progress.advance(note=run.run_id)


def _train_one(run: PlannedRun, inputs: ModelInputs, *, out: Path, device: torch.device) -> None:
    """Trains one run and writes its folder, with results or with the reason why there are none."""
    files = {"config.json": to_json({**asdict(run.config), "versions": versions()})}
    try:
        files |= train_run(run.config, run.images, inputs, device=device)
        files[DONE] = b""
    except RunError as error:
        logger.error("run %s failed: %s", run.run_id, error)
        files[ERROR_FILE] = f"{error}\n".encode()
    except (RuntimeError, MemoryError) as error:  # torch reports a lack of memory as a RuntimeError
        logger.exception("run %s failed", run.run_id)
        files[ERROR_FILE] = f"{type(error).__name__}: {error}\n".encode()
    write_run(out, run.run_id, files)


def train_run(config: RunConfig, images: CellImages, inputs: ModelInputs, *, device: torch.device) -> dict[str, bytes]:
    """Trains, then looks at the test images once: the files of a finished run, without DONE.

    Raises:
        RunError: the training diverged.
    """
    started_s = time.perf_counter()
    number = {label: position for position, label in enumerate(config.classes)}

    def labelled(samples: Sequence[Sample]) -> Labelled:
        return Labelled(inputs.index(samples), torch.tensor([number[sample.label] for sample in samples]))

    network = _network(config, inputs, images)
    outcome = fit(
        network,
        inputs.values,
        train=labelled(images.train),
        validation=labelled(images.validation),
        config=config.training,
        seed=config.seed,
        device=device,
    )
    probabilities = predict(network, inputs.values, inputs.index(images.test), device=device)
    true = np.array([number[sample.label] for sample in images.test])
    return {
        "metrics.json": to_json(
            _metrics(config, images, outcome, true, probabilities, time.perf_counter() - started_s)
        ),
        "predictions.csv": _predictions_csv(config, images, true, probabilities),
        "training_images.csv": _training_images_csv(images),
        "model.safetensors": save({name: value.cpu().contiguous() for name, value in network.state_dict().items()}),
    }


def _network(config: RunConfig, inputs: ModelInputs, images: CellImages) -> nn.Module:
    """Normalisation, then the whole model, or a frozen one's head. The same start for a seed, whatever the ratio."""
    spec = model_spec(config.model)
    torch.manual_seed(config.seed)
    if not spec.frozen:
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255.0 for values in (spec.mean, spec.std))
        return nn.Sequential(Standardise(mean, std), spec.build(len(config.classes)))
    # Backbones differ widely in scale, an untrained one most. The real images trained on set it: they are the same in
    # every additive arm at a seed. An arm without any real ones uses its own.
    features = inputs.values[inputs.index(images.real or images.train)]
    std = features.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, torch.ones_like(std))
    return nn.Sequential(Standardise(features.mean(dim=0), std), nn.Linear(spec.feature_dim, len(config.classes)))


def _metrics(
    config: RunConfig, images: CellImages, outcome: Fit, true: np.ndarray, probabilities: np.ndarray, seconds: float
) -> dict[str, object]:
    return {
        **classification_metrics(true, probabilities.argmax(axis=1), len(config.classes)),
        **asdict(outcome),
        "real_images": len(images.real),
        "synthetic_images": len(images.synthetic),
        "copied_images": images.count(COPY),
        "more_images": images.count(MORE),
        "validation_images": len(images.validation),
        "test_images": len(images.test),
        "seconds": round(seconds, 3),
    }


def _predictions_csv(config: RunConfig, images: CellImages, true: np.ndarray, probabilities: np.ndarray) -> bytes:
    predicted = probabilities.argmax(axis=1)
    rows = [
        (sample.file, sample.label, config.classes[guess], f"{row[guess]:.6f}", f"{row[right]:.6f}")
        for sample, row, guess, right in zip(images.test, probabilities, predicted, true, strict=True)
    ]
    return to_csv(("file", "true", "predicted", "p_predicted", "p_true"), rows)


def _training_images_csv(images: CellImages) -> bytes:
    parts = (("train", images.train), ("validation", images.validation))
    rows = [(each.file, each.label, each.source, use) for use, samples in parts for each in samples]
    return to_csv(("file", "label", "source", "use"), rows)


def _write_grid_files(
    out: Path,
    config: GridConfig,
    dataset: Dataset,
    weights: Mapping[str, Weights],
    planned: Sequence[PlannedRun],
    device: torch.device,
) -> None:
    """Everything about the grid that its runs do not hold, written before training so that a kill loses nothing."""
    sheet, layout = contact_sheet(dataset)
    training = training_configs(config, dataset)
    clear_unfinished(out)
    info = {
        "config": asdict(config),
        "classes": dataset.classes,
        "images_per_class": dataset.images_per_class(),
        "fingerprints": dataset.fingerprints(),
        "test_images_also_trained_on": dataset.leaked(),
        "models": {
            model: {
                "title": MODELS[model].title,
                "noun": MODELS[model].noun,
                "frozen": MODELS[model].frozen,
                "weights": weights[model].source if model in weights else "",
                "weights_fingerprint": weights[model].fingerprint if model in weights else "",
                "image_size_px": config.image_size_for(model),
                "training": asdict(training[model]),
            }
            for model in config.models
        },
        "samples": layout.to_dict(),
        "device": str(device),
        "versions": versions(),
        "arms": [arm.name for arm in config.used_arms],
        "sources": dict(config.sources),
        "runs": [run_entry(run.config, dataset.sources) for run in planned],
    }
    write_file(out / SAMPLES_FILE, sheet)
    write_file(out / GRID_FILE, to_json(info))


def run_entry(run: RunConfig, sources: Sequence[str]) -> dict[str, object]:
    """A run's line in grid.json."""
    arm = parse_arm(run.arm)
    return {
        "run_id": run.run_id,
        "model": run.model,
        "arm": arm.name,
        "regime": arm.regime,
        "ratio": arm.amount,
        "source": resolved_source(arm, sources),
        "budget": run.budget,
        "seed": run.seed,
    }


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in ("synthgrid", "torch", "torchvision", "numpy", "scikit-learn", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"threads": str(torch.get_num_threads())}

"""--validation kfold: each model's learning rate by cross-validation, before anything is trained.

Only the real training images are used. The choice is kept in kfold.json in the grid's folder, so
that a grid that is resumed or extended trains with the same rates.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from trainer.config import GridConfig, TrainingConfig
from trainer.data.dataset import Dataset
from trainer.data.samples import REAL, fingerprint
from trainer.errors import RunError
from trainer.models.weights import Weights
from trainer.progress import Progress
from trainer.runs import read_json_file, to_json, write_file
from trainer.training.tuning.folds import Folds, prepare_folds

logger = logging.getLogger(__name__)
KFOLD_FILE = "kfold.json"
FOLDS = 3
# The recipe's own rate first: it stays where another is no better.
FACTORS = (1.0, 1 / 3, 3.0)


def chosen_rates(
    config: GridConfig,
    dataset: Dataset,
    training: Mapping[str, TrainingConfig],
    weights: Mapping[str, Weights],
    *,
    device: torch.device,
) -> dict[str, TrainingConfig]:
    """Each model's hyper-parameters, with the learning rate that has the highest macro F1 out of
    fold: the given one, a third of it, or three times as much.

    Models whose head is fitted without an optimiser have no rate, and stay as they are.

    Raises:
        DataError: a class has fewer images than there are folds.
    """
    out = Path(config.out)
    path = out / KFOLD_FILE
    known = read_json_file(path) if path.is_file() else {}
    found = dict(training)
    for model, given in training.items():
        if given.head != "linear":
            continue
        identity = _identity(config, dataset, model, given, weights)
        entry = known.get(identity)
        if entry is None:
            entry = _scored(config, dataset, model, given, weights, device=device)
            known[identity] = {"model": model, **entry}
            write_file(path, to_json(known))
        found[model] = replace(given, learning_rate=float(entry["learning_rate"]))
    return found


def _identity(
    config: GridConfig,
    dataset: Dataset,
    model: str,
    training: TrainingConfig,
    weights: Mapping[str, Weights],
) -> str:
    """What a choice depends on, as a short hash."""
    parts = (
        model,
        config.image_size_for(model),
        sorted(asdict(training).items()),
        weights[model].fingerprint if model in weights else "",
        fingerprint(_real(dataset)),
        FOLDS,
        FACTORS,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _real(dataset: Dataset) -> list[Any]:
    return [each for label in dataset.classes for each in dataset.pool(REAL, label)]


def _scored(
    config: GridConfig,
    dataset: Dataset,
    model: str,
    training: TrainingConfig,
    weights: Mapping[str, Weights],
    *,
    device: torch.device,
) -> dict[str, Any]:
    folds = prepare_folds(
        _real(dataset),
        dataset.classes,
        model=model,
        folds=FOLDS,
        seed=0,
        image_size_px=config.image_size_for(model),
        weights=weights,
        trainings=[training],
        cache=Path(config.out) / "features",
        device=device,
    )
    rates = [training.learning_rate * factor for factor in FACTORS]
    scores = []
    with Progress(f"learning rate of {model}", total=len(rates), unit="rates") as progress:
        for rate in rates:
            scores.append(_score(folds, replace(training, learning_rate=rate)))
            progress.advance(note=f"{rate:.2g}: macro F1 {scores[-1]:.3f}")
    best = max(range(len(rates)), key=lambda position: (scores[position], -position))
    logger.info("%s: learning rate %.3g by cross-validation", model, rates[best])
    return {
        "learning_rate": rates[best],
        "macro_f1": {f"{rate:.6g}": score for rate, score in zip(rates, scores, strict=True)},
    }


def _score(folds: Folds, training: TrainingConfig) -> float:
    try:
        return folds.score(training)
    except RunError as error:
        logger.info("learning rate %.3g diverged: %s", training.learning_rate, error)
        return 0.0

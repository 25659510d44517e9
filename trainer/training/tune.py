"""Hyper-parameters from the real training images alone: Optuna over cross-validation folds.

The test folder is only hashed, to make sure that none of its images is among those tuned on. The
result is a JSON file that `grid --tuned` takes and holds constant over all its cells.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from trainer.config import GridConfig, TrainingConfig
from trainer.config.fields import check_whole
from trainer.data.dataset import Sample, fingerprint, load_dataset
from trainer.errors import ConfigError, DataError, RunError
from trainer.models.registry import model_spec
from trainer.models.weights import find_weights, given_weights
from trainer.progress import Progress
from trainer.runs import read_json_file, to_json, write_file
from trainer.training.classifier import new_network
from trainer.training.compute import deterministic, pick_device, predict
from trainer.training.engine import LabelledTensors, fit
from trainer.training.inputs import ModelInputs, prepare_inputs
from trainer.training.run import versions

logger = logging.getLogger(__name__)

# What is searched and in which range; learning rate and weight decay on a logarithmic scale.
LEARNING_RATES = (1e-4, 1e-1)
WEIGHT_DECAYS = (1e-6, 1e-1)
BATCH_SIZES = (16, 32, 64)
TUNED = ("learning_rate", "weight_decay", "batch_size", "augment")
_STUDY_NAMES = {"weight_decay": "l2"}  # what studies call it, so that old ones can be resumed
_DIVERGED = 0.0  # the score of a training whose loss became NaN or infinite


@dataclass(frozen=True)
class TuneConfig:
    """What to tune and how long. `trials` counts those of earlier calls on the same study too."""

    real: str
    out: str
    model: str = "cnn"
    trials: int = 30
    folds: int = 3
    seed: int = 0
    image_size_px: int | None = None
    weights: str | None = None
    allow_untrained: bool = False
    device: str = "auto"
    threads: int | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("trials", 1, 10**6), ("folds", 2, 1000), ("seed", 0, 2**32 - 1)):
            check_whole(name, getattr(self, name), low=low, high=high)
        if Path(self.out).suffix != ".json":
            raise ConfigError(
                f"--out {self.out} must name a .json file, such as runs/tuned-{self.model}.json"
            )
        self.grid()

    def grid(self) -> GridConfig:
        """The real-only grid that these hyper-parameters are for: its checks and defaults apply
        here."""
        return GridConfig(
            real=self.real,
            out=str(Path(self.out).parent),
            models=(self.model,),
            ratios=(0.0,),
            image_size_px=self.image_size_px,
            weights=self.weights,
            allow_untrained=self.allow_untrained,
            device=self.device,
            threads=self.threads,
            quick=self.quick,
        )


@dataclass(frozen=True)
class TuningResult:
    """The best trial. Scores are macro F1 over all out-of-fold predictions, in 0..1;
    `default_score` is the defaults'."""

    path: Path
    training: Mapping[str, Any]
    score: float
    default_score: float
    trials: int


@dataclass(frozen=True)
class _Folds:
    """Everything a trial needs: inputs and labels [n] of the real training images, and the folds
    over them."""

    config: TuneConfig
    base: TrainingConfig
    image_size_px: int
    inputs: ModelInputs
    rows: torch.Tensor
    labels: torch.Tensor
    num_classes: int
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    device: torch.device


def tune(config: TuneConfig) -> TuningResult:
    """Runs the trials that are still missing and writes the JSON file.

    Raises:
        DataError: too few images per class for the folds, or a test image among the training ones.
        ConfigError: the study beside `out` was made with other data or settings, or Optuna is
            missing.
        WeightsError: no weights for a frozen model.
    """
    optuna = _optuna()
    samples, classes = _training_images(config)
    identity = _identity(config, samples)
    study = _open_study(optuna, config, identity)
    done = len(
        [each for each in study.trials if each.state.is_finished() and each.state.name != "FAIL"]
    )
    if done < config.trials:
        folds = _prepare(config, samples, classes)
        if done == 0:
            study.enqueue_trial(
                {_STUDY_NAMES.get(name, name): getattr(folds.base, name) for name in TUNED}
            )
        with (
            deterministic(),
            Progress("trials", total=config.trials - done, unit="trials") as progress,
        ):
            study.optimize(
                lambda trial: _score(optuna, trial, folds),
                n_trials=config.trials - done,
                callbacks=[
                    lambda study, _: progress.advance(note=f"best macro F1 {_best(study):.3f}")
                ],
            )
    return _write(config, study, samples, identity)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs Optuna; install with: pip install -e '.[train]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _training_images(config: TuneConfig) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The real training images and the classes. Test images are only hashed."""
    dataset = load_dataset(Path(config.real), None, limit_per_class=config.grid().limit_per_class)
    test = {sample.sha256: sample.file for sample in dataset.test}
    shared = [
        f"{each.file} = test/{test[each.sha256]}" for each in dataset.train if each.sha256 in test
    ]
    if shared:
        raise DataError(
            f"{len(shared)} training images are test images too ({shared[0]}); tuning on them "
            "would spoil the test: remove them from one of the two"
        )
    counts = {
        label: sum(each.label == label for each in dataset.train) for label in dataset.classes
    }
    least = min(counts, key=lambda label: counts[label])
    if counts[least] < config.folds:
        raise DataError(
            f"class '{least}' has {counts[least]} training images for {config.folds} folds; use "
            "fewer --folds"
        )
    return dataset.train, dataset.classes


def _identity(config: TuneConfig, samples: Sequence[Sample]) -> dict[str, Any]:
    """What must be the same for trials to belong to one study."""
    kept = ("model", "folds", "seed", "image_size_px", "weights", "quick")
    return {name: getattr(config, name) for name in kept} | {
        "data_fingerprint": fingerprint(samples)
    }


def _open_study(optuna: Any, config: TuneConfig, identity: Mapping[str, Any]) -> Any:
    """The study in the file beside `out`, new or resumed; trials that a kill cut short are marked
    as failed."""
    path = Path(config.out).with_suffix(".study.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            storage=f"sqlite:///{path.as_posix()}",
            study_name="synthgrid",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
    before = study.user_attrs.get("identity")
    if before is not None and before != identity:
        changed = ", ".join(
            f"{name} {before.get(name)} -> {identity[name]}"
            for name in identity
            if before.get(name) != identity[name]
        )
        raise ConfigError(
            f"{path} belongs to another study ({changed}); choose another file with --out"
        )
    study.set_user_attr("identity", dict(identity))
    for trial in study.trials:
        if not trial.state.is_finished() and trial.state.name == "RUNNING":
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # A sampler that starts from the same seed again would propose the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    return study


def _prepare(config: TuneConfig, samples: Sequence[Sample], classes: Sequence[str]) -> _Folds:
    if config.threads:
        torch.set_num_threads(config.threads)
    grid, device = config.grid(), pick_device(config.device)
    weights = {}
    if model_spec(config.model).pretrained:
        given = given_weights(config.weights, [config.model]).get(model_spec(config.model).name)
        weights[config.model] = find_weights(
            config.model, given=given, allow_untrained=config.allow_untrained
        )
    size = grid.image_size_for(config.model)
    inputs = prepare_inputs(
        {config.model: samples},
        sizes_px={config.model: size},
        weights=weights,
        cache=Path(config.out).parent / "features",
        device=device,
    )[config.model]
    labels = np.array([classes.index(each.label) for each in samples])
    splits = list(
        StratifiedKFold(config.folds, shuffle=True, random_state=config.seed).split(labels, labels)
    )
    base = grid.training_for(config.model, train_images=len(splits[0][0]))
    return _Folds(
        config,
        base,
        size,
        inputs,
        inputs.index(samples),
        torch.from_numpy(labels),
        len(classes),
        splits,
        device,
    )


def _score(optuna: Any, trial: Any, folds: _Folds) -> float:
    """Macro F1 over the predictions of all folds, each made by the network that did not see its
    image."""
    training = replace(folds.base, **_suggest(trial, folds))
    true, guessed = [], []
    for number, (train, held) in enumerate(folds.splits):
        try:
            guessed.append(_train_fold(folds, training, train, held))
        except RunError as error:
            logger.info("trial %d diverged: %s", trial.number, error)
            return _DIVERGED
        true.append(folds.labels[held].numpy())
        score = float(
            f1_score(
                np.concatenate(true), np.concatenate(guessed), average="macro", zero_division=0
            )
        )
        trial.report(score, number)
        if number + 1 < len(folds.splits) and trial.should_prune():
            raise optuna.TrialPruned
    return score


def _suggest(trial: Any, folds: _Folds) -> dict[str, Any]:
    augments = ("none",) if model_spec(folds.config.model).frozen else ("none", "standard")
    return {
        "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
        "weight_decay": trial.suggest_float(_STUDY_NAMES["weight_decay"], *WEIGHT_DECAYS, log=True),
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "augment": trial.suggest_categorical("augment", augments),
    }


def _train_fold(
    folds: _Folds, training: TrainingConfig, train: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Trains on the images `train`, picks the checkpoint on `held` as a grid's run does, and
    predicts `held`."""

    def labelled(part: np.ndarray) -> LabelledTensors:
        return LabelledTensors(folds.rows[part], folds.labels[part])

    values, seed = folds.inputs.values, folds.config.seed
    network = new_network(
        folds.config.model,
        folds.num_classes,
        seed=seed,
        image_size_px=folds.image_size_px,
        inputs=folds.inputs,
        standardise_on=folds.rows[train],
    )
    fit(
        network,
        values,
        train=labelled(train),
        validation=labelled(held),
        config=training,
        seed=seed,
        device=folds.device,
    )
    probabilities = predict(network, values, folds.rows[held], device=folds.device)
    return np.asarray(probabilities.argmax(axis=1))


def _best(study: Any) -> float:
    try:
        return float(study.best_value)
    except ValueError:
        return 0.0


def _write(
    config: TuneConfig, study: Any, samples: Sequence[Sample], identity: Mapping[str, Any]
) -> TuningResult:
    best, finished = (
        study.best_trial,
        [each for each in study.trials if each.state.name in ("COMPLETE", "PRUNED")],
    )
    default_score = next(
        (each.value for each in study.trials if each.number == 0 and each.value is not None), 0.0
    )
    chosen = {name: best.params.get(_STUDY_NAMES.get(name, name)) for name in TUNED}
    training = {name: value for name, value in chosen.items() if value is not None}
    values = {
        "model": config.model,
        "training": training,
        "study": {
            "trials": len(finished),
            "best_trial": best.number,
            "macro_f1": best.value,
            "macro_f1_of_defaults": default_score,
            "folds": config.folds,
            "seed": config.seed,
        },
        "data_fingerprint": identity["data_fingerprint"],
        "images": sorted({each.sha256 for each in samples}),
        "config": asdict(config),
        "versions": versions(),
    }
    path = Path(config.out)
    if (
        path.is_file()
        and read_json_file(path).get("data_fingerprint") != identity["data_fingerprint"]
    ):
        raise ConfigError(f"{path} was tuned on other images; choose another file with --out")
    write_file(path, to_json(values))
    return TuningResult(path, training, float(best.value), float(default_score), len(finished))

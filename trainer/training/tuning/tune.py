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

import torch

from trainer.arms import AUGMENTATIONS, STANDARD
from trainer.config import DEFAULT_RECIPE, HEADS, RECIPES, GridConfig, TrainingConfig
from trainer.config.fields import check_choice, check_number, check_whole
from trainer.config.folders import check_outside
from trainer.data.dataset import load_dataset
from trainer.data.samples import Sample, fingerprint
from trainer.errors import ConfigError, DataError, RunError
from trainer.models.registry import model_spec
from trainer.models.weights import find_weights, given_weights
from trainer.progress import Progress
from trainer.runs import read_json_file, to_json, write_file
from trainer.training.compute import deterministic, pick_device
from trainer.training.run import versions
from trainer.training.tuning.folds import Folds, check_folds, prepare_folds

logger = logging.getLogger(__name__)

# What is searched and in which range; learning rate and weight decay on a logarithmic scale.
LEARNING_RATES = (1e-4, 1e-1)
WEIGHT_DECAYS = (1e-6, 1e-1)
BATCH_SIZES = (16, 32, 64)
DECOUPLED_DECAYS = (1e-4, 1.0)  # AdamW's, which act on the weights directly
MIXUPS = (0.0, 0.2)
ANY, CLASSIC = "any", "classic"
# Fields that studies call otherwise: as they did first, so that old ones can be resumed, and since
# a parameter cannot have other choices in other trials.
_FIELDS = {"l2": "weight_decay", "kind": "augment"}
_DIVERGED = 0.0  # the score of a training whose loss became NaN or infinite


@dataclass(frozen=True)
class TuneConfig:
    """What to tune and how long: until there are `trials`, those of earlier calls on the same study
    included, or for `minutes`. `recipe` is a recipe's name, or "any" to try them all."""

    real: str
    out: str
    model: str = "cnn"
    recipe: str = DEFAULT_RECIPE
    trials: int = 30
    minutes: float | None = None
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
        check_choice("recipe", self.recipe, (*RECIPES, ANY))
        if self.minutes is not None:
            check_number("minutes", self.minutes, low=0.0, low_excluded=True)
        if Path(self.out).suffix != ".json":
            raise ConfigError(
                f"--out {self.out} must name a .json file, such as runs/tuned-{self.model}.json"
            )
        check_outside(self.out, [Path(self.real) / "train", Path(self.real) / "test"])
        self.grid()

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes that are tried, the default first."""
        if self.recipe != ANY:
            return (self.recipe,)
        return (DEFAULT_RECIPE, *(each for each in RECIPES if each != DEFAULT_RECIPE))

    def grid(self) -> GridConfig:
        """The real-only grid that these hyper-parameters are for: its checks and defaults apply
        here."""
        return GridConfig(
            real=self.real,
            out=str(Path(self.out).parent),
            models=(self.model,),
            ratios=(0.0,),
            recipe=self.recipes[0],
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
    recipe: str
    training: Mapping[str, Any]
    score: float
    default_score: float
    trials: int


@dataclass(frozen=True)
class _Search:
    """The folds, and each recipe's hyper-parameters, from which trials start."""

    folds: Folds
    bases: Mapping[str, TrainingConfig]

    def suggested(self, trial: Any) -> tuple[str, TrainingConfig]:
        """A trial's recipe and hyper-parameters."""
        names = tuple(self.bases)
        name = names[0] if len(names) == 1 else trial.suggest_categorical("recipe", names)
        base, frozen = self.bases[name], model_spec(self.folds.model).frozen
        if name == CLASSIC:
            kinds = ("none",) if frozen else ("none", STANDARD)
            augment = {"augment": trial.suggest_categorical("augment", kinds)}
            return name, replace(base, **_numbers(trial, "l2", WEIGHT_DECAYS), **augment)
        values = {
            "augment": trial.suggest_categorical("kind", _augments(self.folds.model)),
            "mirror": trial.suggest_categorical("mirror", (True, False)),
        }
        if frozen:
            values["head"] = trial.suggest_categorical("head", HEADS)
            if values["head"] != "linear":
                return name, replace(base, **values)
        else:
            values["mixup"] = trial.suggest_categorical("mixup", MIXUPS)
        return name, replace(base, **_numbers(trial, "weight_decay", DECOUPLED_DECAYS), **values)

    def start(self, name: str) -> dict[str, Any]:
        """A recipe's own hyper-parameters as the parameters of a trial; those that a trial does not
        have are ignored."""
        base = self.bases[name]
        decay = min(max(base.weight_decay, WEIGHT_DECAYS[0]), DECOUPLED_DECAYS[1])
        return {
            "recipe": name,
            "learning_rate": base.learning_rate,
            "l2": decay,
            "weight_decay": max(decay, DECOUPLED_DECAYS[0]),
            "batch_size": base.batch_size,
            "augment": base.augment,
            "kind": base.augment,
            "mirror": base.mirror,
            "head": base.head,
            "mixup": base.mixup,
        }


def _numbers(trial: Any, decay: str, decays: tuple[float, float]) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
        "weight_decay": trial.suggest_float(decay, *decays, log=True),
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
    }


def tune(config: TuneConfig) -> TuningResult:
    """Runs the trials that are still missing and writes the JSON file.

    Raises:
        DataError: too few images per class for the folds, or a test image among the training ones.
        ConfigError: the study beside `out` was made with other data or settings, the minutes were
            over before a trial began, or Optuna is missing.
        WeightsError: no weights for a pretrained model.
    """
    optuna = _optuna()
    samples, classes = _training_images(config)
    identity = _identity(config, samples)
    study = _open_study(optuna, config, identity)
    done = len(
        [each for each in study.trials if each.state.is_finished() and each.state.name != "FAIL"]
    )
    if done < config.trials:
        search = _prepare(config, samples, classes)
        if done == 0:
            for name in config.recipes:
                study.enqueue_trial(search.start(name))
        with (
            deterministic(),
            Progress("trials", total=config.trials - done, unit="trials") as progress,
        ):
            study.optimize(
                lambda trial: _score(optuna, trial, search),
                n_trials=config.trials - done,
                timeout=None if config.minutes is None else 60 * config.minutes,
                callbacks=[
                    lambda study, _: progress.advance(note=f"best macro F1 {_best(study):.3f}")
                ],
            )
    if not any(each.state.name == "COMPLETE" for each in study.trials):
        raise ConfigError(f"no trial began within {config.minutes} minutes; give more --minutes")
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
    check_folds(dataset.train, dataset.classes, config.folds)
    return dataset.train, dataset.classes


def _identity(config: TuneConfig, samples: Sequence[Sample]) -> dict[str, Any]:
    """What must be the same for trials to belong to one study."""
    kept = ("model", "folds", "seed", "image_size_px", "weights", "quick")
    found = {name: getattr(config, name) for name in kept}
    if config.recipe != CLASSIC:  # which all studies used before there were recipes
        found["recipe"] = config.recipe
    return found | {"data_fingerprint": fingerprint(samples)}


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
            f"{name} {before.get(name)} -> {identity.get(name)}"
            for name in {**identity, **before}
            if before.get(name) != identity.get(name)
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


def _prepare(config: TuneConfig, samples: Sequence[Sample], classes: Sequence[str]) -> _Search:
    if config.threads:
        torch.set_num_threads(config.threads)
    grid, device, weights = config.grid(), pick_device(config.device), {}
    if model_spec(config.model).pretrained:
        given = given_weights(config.weights, [config.model]).get(model_spec(config.model).name)
        weights[config.model] = find_weights(
            config.model, given=given, allow_untrained=config.allow_untrained
        )
    # As long as a grid trains: on all images.
    bases = {
        name: replace(grid, recipe=name).training_for(config.model, train_images=len(samples))
        for name in config.recipes
    }
    spaces = [
        replace(base, augment=augment, mirror=mirror)
        for base in bases.values()
        for augment in _augments(config.model)
        for mirror in (True, False)
    ]
    folds = prepare_folds(
        samples,
        classes,
        model=config.model,
        folds=config.folds,
        seed=config.seed,
        image_size_px=grid.image_size_for(config.model),
        weights=weights,
        trainings=spaces,
        cache=Path(config.out).parent / "features",
        device=device,
        inner=len(bases) > 1,
    )
    return _Search(folds, bases)


def _augments(model: str) -> tuple[str, ...]:
    """The kinds of augmentation that are tried; views of a frozen backbone cost a pass each."""
    return ("none", "standard") if model_spec(model).frozen else AUGMENTATIONS


def _score(optuna: Any, trial: Any, search: _Search) -> float:
    """Macro F1 out of fold; 0 for a training that diverged."""
    _, training = search.suggested(trial)

    def report(score: float, number: int) -> None:
        trial.report(score, number)
        if number + 1 < len(search.folds.splits) and trial.should_prune():
            raise optuna.TrialPruned

    try:
        return search.folds.score(training, after_fold=report)
    except RunError as error:
        logger.info("trial %d diverged: %s", trial.number, error)
        return _DIVERGED


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
    training = {_FIELDS.get(name, name): value for name, value in best.params.items()}
    recipe = training.pop("recipe", config.recipes[0])
    values = {
        "model": config.model,
        "recipe": recipe,
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
    return TuningResult(
        path, recipe, training, float(best.value), float(default_score), len(finished)
    )

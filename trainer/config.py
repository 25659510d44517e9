"""What a grid, a run and a training are asked to do: frozen, checked on construction, strict about field names.

No torch here: the report reads these too.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from trainer.arms import (
    BASELINE,
    BUDGETS,
    NOT_SOURCES,
    SHARED_BUDGET,
    SOURCE_NAME,
    Arm,
    arm_of_ratio,
    parse_arm,
    resolved_source,
)
from trainer.errors import ConfigError
from trainer.models.registry import model_spec

T = TypeVar("T")
AUGMENTATIONS = ("none", "standard")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("local", "ray")
DEFAULT_SOURCE = "synthetic"  # the name of a synthetic folder that was given none
_DEFAULT_RATIOS = (0.0, 0.5, 1.0)
_MIN_IMAGE_SIZE_PX = 32  # five poolings halve 32 pixels to one
_QUICK_UPDATES = 40
_ASKED = (
    "updates",
    "epochs",
    "batch_size",
    "learning_rate",
    "l2",
)  # of GridConfig's fields, what overrides a model's
_LISTS = {
    "models": str, "ratios": float, "arms": str, "budgets": str, "tuned": str, "weights": str, "devices": str,
}  # fmt: skip
_RUN_FORMAT = 2  # part of every run's hash: raise it when the same config would train differently


@dataclass(frozen=True)
class TrainingConfig:
    """One model's hyper-parameters, the same in every cell of a grid.

    Either `updates` (optimiser steps) or `epochs` (passes over the cell's own training images) is set. At a fixed
    number of updates a cell with more images does not also train for longer, which is what makes cells comparable.
    `l2` is the coefficient of the L2 penalty; `checkpoints` is how often validation is looked at, evenly spaced. A
    frozen backbone sees `views` augmented views of each training image, where images are augmented.
    """

    updates: int | None = 300
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    l2: float = 5e-4
    augment: str = "none"
    views: int = 4
    precision: str = "auto"
    checkpoints: int = 10

    def __post_init__(self) -> None:
        if (self.updates is None) == (self.epochs is None):
            raise ConfigError("set either updates or epochs, not both and not neither")
        for name in ("updates", "epochs", "batch_size", "views", "checkpoints"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), low=1)
        _check_number("learning_rate", self.learning_rate, low=0.0, low_excluded=True)
        _check_number("l2", self.l2, low=0.0)
        _check_choice("augment", self.augment, AUGMENTATIONS)
        _check_choice("precision", self.precision, PRECISIONS)

    def total_updates(self, train_images: int) -> int:
        """Optimiser steps over `train_images` images."""
        return self.updates or math.ceil(train_images / self.batch_size) * (self.epochs or 0)


@dataclass(frozen=True)
class RunConfig:
    """One cell of a grid at one seed: everything that its numbers depend on, and so its identity.

    `arm` is an arm's canonical name (trainer.arms). `training` has the run's own number of updates, whatever the budget.
    `data_fingerprint` covers the images that this run trains, validates and tests on, by name, label and content.
    `weights` says where a pretrained model's weights came from ("" for a model trained from scratch).
    """

    model: str
    arm: str
    budget: str
    seed: int
    image_size_px: int
    training: TrainingConfig
    validation_share: float
    classes: tuple[str, ...]
    data_fingerprint: str
    weights: str = ""
    weights_fingerprint: str = ""
    run_format: int = _RUN_FORMAT

    def __post_init__(self) -> None:
        if model_spec(self.model).name != self.model:
            raise ConfigError(
                f"model '{self.model}' is not in its shortest spelling, '{model_spec(self.model).name}'"
            )
        arm = parse_arm(self.arm)
        if arm.name != self.arm:
            raise ConfigError(f"arm '{self.arm}' is not in its shortest spelling, '{arm.name}'")
        _check_choice("budget", self.budget, arm.budgets)
        _check_whole("seed", self.seed, low=0)
        _check_whole("image_size_px", self.image_size_px, low=_MIN_IMAGE_SIZE_PX)

    @property
    def run_id(self) -> str:
        """Readable, and different whenever anything that matters is: "cnn-add-1-epochs-seed0-1a2b3c4d"."""
        digest = hashlib.sha256(
            json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()
        budget = f"-{self.budget}" * (self.budget != SHARED_BUDGET)
        return f"{self.model}-{self.arm}{budget}-seed{self.seed}-{digest[:8]}".replace(":", "-")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The config in a run's config.json.

        Raises:
            ConfigError: a field is unknown, missing, or out of range.
        """
        values = dict(values)
        values["training"] = strict(TrainingConfig, values.get("training", {}))
        values["classes"] = tuple(values.get("classes", ()))
        return strict(cls, values)


@dataclass(frozen=True)
class GridConfig:
    """A whole grid: models x arms x budgets x seeds on one set of real images.

    `synthetic` is a folder, or several by name ({"syn1": folder, ...}). `ratios` is the short form of additive arms:
    0,0.5,1 means real, add:0.5, add:1; `arms` come after them. `seeds` is how many there are (0, 1, ...). A field that
    is None leaves each model's own default. `tuned` are files of hyper-parameters,
    each for one model. `devices` are those of the local executor's processes. `quick` shrinks images, counts and updates to a smoke run whose numbers
    mean nothing.
    """

    real: str
    out: str
    synthetic: str | Mapping[str, str] | None = None
    models: tuple[str, ...] = ("cnn", "resnet50")
    ratios: tuple[float, ...] | None = None
    arms: tuple[str, ...] = ()
    budgets: tuple[str, ...] = BUDGETS
    more_real: str | None = None
    drop_leaks: bool = False
    seeds: int = 3
    validation_share: float = 0.2
    image_size_px: int | None = None
    updates: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    l2: float | None = None
    augment: str = "none"
    tuned: tuple[str, ...] = ()
    precision: str = "auto"
    weights: str | tuple[str, ...] | None = None
    allow_untrained: bool = False
    device: str = "auto"
    devices: tuple[str, ...] = ()
    executor: str = "local"
    address: str | None = None
    threads: int | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        for name in ("real", "out"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigError(f"{name} must name a folder, not {getattr(self, name)!r}")
        folders = [self.more_real] if self.more_real is not None else []
        folders += (
            self.synthetic.values()
            if isinstance(self.synthetic, Mapping)
            else [self.synthetic or "none"]
        )
        for folder in folders:
            if not isinstance(folder, str) or not folder:
                raise ConfigError(f"synthetic and more_real must name folders, not {folder!r}")
        self._check_axes()
        _check_number(
            "validation_share", self.validation_share, low=0.0, low_excluded=True, high=0.9
        )
        _check_choice("device", self.device, DEVICES)
        self._check_machine()
        for name, low in (("image_size_px", _MIN_IMAGE_SIZE_PX), ("threads", 1)):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), low=low)
        for name in ("quick", "allow_untrained", "drop_leaks"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for model in self.models:
            model_spec(model).check_image_size(self.image_size_for(model))
            self.training_for(model, train_images=1)
        self._check_arms()

    def _check_axes(self) -> None:
        _check_whole("seeds", self.seeds, low=1)
        object.__setattr__(self, "models", tuple(model_spec(model).name for model in self.models))
        if not self.models or len(set(self.models)) != len(self.models):
            raise ConfigError(
                f"models must name each model once, not {','.join(map(str, self.models)) or 'none'}"
            )
        for ratio in self.ratios or ():
            _check_number("ratio", ratio, low=0.0)
        if self.ratios is not None and (
            0 not in self.ratios or sorted(set(self.ratios)) != list(self.ratios)
        ):
            given = ",".join(f"{ratio:g}" for ratio in self.ratios)
            raise ConfigError(
                f"ratios are {given or 'empty'}; they must rise and start at 0, the real-only cell that the others "
                f"are compared with, as in 0,0.5,1"
            )
        for budget in self.budgets:
            _check_choice("budget", budget, BUDGETS)
        if not self.budgets or len(set(self.budgets)) != len(self.budgets):
            raise ConfigError(
                f"budgets must name each budget once, not {','.join(self.budgets) or 'none'}"
            )

    def _check_machine(self) -> None:
        _check_choice("executor", self.executor, EXECUTORS)
        if self.address is not None and self.executor != "ray":
            raise ConfigError(f"address {self.address} is a Ray cluster's; add --executor ray")
        if self.devices and (self.executor != "local" or self.device != "auto"):
            raise ConfigError(
                "devices names the processes of --executor local; leave --device and --executor out"
            )
        for name in self.devices:
            if not re.fullmatch(r"cpu|cuda:\d{1,3}", name):
                raise ConfigError(
                    f"devices has '{name}'; expected cpu or cuda:0, cuda:1, ..., as in cuda:0,cuda:1"
                )

    def _check_arms(self) -> None:
        names = [arm.name for arm in self.used_arms]
        if len(set(names)) != len(names):
            raise ConfigError(
                f"arms must name each arm once, not {','.join(names)}; --ratios 0,1 means real,add:1"
            )
        if BASELINE not in names:
            raise ConfigError(
                f"arms are {','.join(names)}; they must include real, which the others are compared with"
            )
        for name in self.sources:
            if name in NOT_SOURCES or not SOURCE_NAME.fullmatch(name):
                raise ConfigError(
                    f"synthetic source '{name}' has no usable name; take letters, digits, '_', '-' and '.', "
                    f"but not {', '.join(NOT_SOURCES)}"
                )
        for arm in self.used_arms:
            resolved_source(arm, tuple(self.sources))
            if arm.regime == "more" and self.more_real is None:
                raise ConfigError(
                    f"arm '{arm.name}' needs further real images; name their folder with --more-real"
                )
            if arm.regime == "augment" and self.augment != "none":
                raise ConfigError(
                    "arm 'augment' is the baseline itself when --augment standard is on; leave one out"
                )

    @property
    def used_arms(self) -> tuple[Arm, ...]:
        """The arms of this grid, in order: those of `ratios`, then `arms`."""
        ratios = (_DEFAULT_RATIOS if not self.arms else ()) if self.ratios is None else self.ratios
        return tuple(arm_of_ratio(ratio) for ratio in ratios) + tuple(
            parse_arm(text) for text in self.arms
        )

    @property
    def sources(self) -> dict[str, str]:
        """The synthetic folders by name; a single one without a name is "synthetic"."""
        if self.synthetic is None:
            return {}
        return (
            {DEFAULT_SOURCE: self.synthetic}
            if isinstance(self.synthetic, str)
            else dict(self.synthetic)
        )

    def budgets_of(self, arm: Arm) -> tuple[str, ...]:
        """The budgets that an arm is trained under: one shared by all, or those asked for."""
        return tuple(each for each in arm.budgets if each == SHARED_BUDGET or each in self.budgets)

    @property
    def used_seeds(self) -> range:
        """The seeds of this grid; a quick one has at most two."""
        return range(min(self.seeds, 2) if self.quick else self.seeds)

    @property
    def limit_per_class(self) -> int | None:
        """How many images a class of train and of test are used: all, but 8 in a quick grid."""
        return 8 if self.quick else None

    def image_size_for(self, model: str) -> int:
        """Side of the square images that `model` sees, in pixels."""
        spec = model_spec(model)
        return self.image_size_px or (
            spec.quick_image_size_px if self.quick else spec.image_size_px
        )

    def training_for(
        self,
        model: str,
        *,
        train_images: int,
        baseline_images: int | None = None,
        tuned: Mapping[str, Any] | None = None,
    ) -> TrainingConfig:
        """The hyper-parameters of `model` in this grid's baseline: its defaults, then what was tuned or asked for.

        `train_images` is the number in the largest cell, `baseline_images` in the real-only one. By default the first
        sets the updates: the model's `passes` over that cell, and no fewer than its `min_updates`; where epochs are the
        only budget, the second does.

        Raises:
            ConfigError: a value is out of range, or both asked for and tuned.
        """
        asked = {name: getattr(self, name) for name in _ASKED if getattr(self, name) is not None}
        asked |= {"augment": self.augment} if self.augment != "none" else {}
        asked |= {"precision": self.precision} if self.precision != "auto" else {}
        both = sorted(asked.keys() & (tuned or {}).keys())
        if both:
            raise ConfigError(
                f"{both[0]} of {model} is asked for and tuned as well; leave out the option or the file"
            )
        values = {
            "updates": None, "precision": self.precision, **model_spec(model).training, **asked, **(tuned or {}),
        }  # fmt: skip
        checked = TrainingConfig(
            **(values | ({} if values.get("epochs") or values["updates"] else {"updates": 1}))
        )
        baseline_images = train_images if baseline_images is None else baseline_images
        if checked.epochs is not None:
            return replace(
                checked,
                epochs=None,
                updates=math.ceil(checked.epochs * baseline_images / checked.batch_size),
            )
        if values["updates"] is not None:
            return checked
        images = train_images if "updates" in self.budgets else baseline_images
        passes = math.ceil(model_spec(model).passes * images / checked.batch_size)
        return replace(
            checked,
            updates=_QUICK_UPDATES if self.quick else max(model_spec(model).min_updates, passes),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GridConfig:
        """The config in a parsed JSON object.

        Raises:
            ConfigError: a field is unknown, missing, or out of range.
        """
        values = dict(values)
        for name, kind in _LISTS.items():
            if name in values and not (name in ("ratios", "weights") and values[name] is None):
                values[name] = _list(name, kind, values[name])
        return strict(cls, values)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a config file.

    Raises:
        ConfigError: the file is not there or does not hold a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}; expected a JSON object of grid options"
        )
    return values


def strict(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from a mapping, refusing fields that it does not have.

    Raises:
        ConfigError: a field is unknown (the nearest known one is named), missing, or out of range.
    """
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"unknown field '{name}'{hint}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def _list(name: str, kind: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    """A list of a config file. One weights file may stand alone."""
    if name == "weights" and isinstance(value, str):
        return (value,)
    try:
        if isinstance(value, str | Mapping):
            raise TypeError
        return tuple(kind(each) for each in value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be a list, not {value!r}") from error


def _check_whole(name: str, value: Any, *, low: int) -> None:
    if type(value) is not int or value < low:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {low}")


def _check_number(
    name: str, value: Any, *, low: float, low_excluded: bool = False, high: float = math.inf
) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < low or value > high or (low_excluded and value == low):
        bound = f"above {low:g}" if low_excluded else f"of at least {low:g}"
        limit = f" and at most {high:g}" if math.isfinite(high) else ""
        raise ConfigError(f"{name} is {value!r}; expected a number {bound}{limit}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} '{value}' is unknown; choose from {', '.join(choices)}")

"""A whole grid: models x arms x budgets x seeds, how they train, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.arms import (
    AUGMENT,
    AUX,
    BASELINE,
    BUDGETS,
    MIXES,
    NORMS,
    NOT_SOURCES,
    SHARED,
    SHARED_BUDGET,
    SOURCE_NAME,
    STRATIFIED,
    Arm,
    arm_of_ratio,
    parse_arm,
    resolved_source,
)
from trainer.config.apart import check_apart
from trainer.config.draws import PILOT_SEEDS, check_seeds, check_test_share
from trainer.config.fields import (
    check_choice,
    check_number,
    check_whole,
    renamed,
    strict,
    to_list,
)
from trainer.config.folders import check_folders, check_tests
from trainer.config.machine import check_machine
from trainer.config.recipes import DEFAULT_RECIPE, HOLDOUT, KFOLD, NONE, RECIPES, VALIDATIONS
from trainer.config.run import TrainingConfig, check_image_size
from trainer.config.selection import Selection, parse_selection
from trainer.errors import ConfigError
from trainer.models.registry import default_models, model_spec

DEFAULT_SOURCE = "synthetic"  # the name of a synthetic folder that was given none
_DEFAULT_RATIOS = (0.0, 0.5, 1.0)
_QUICK_UPDATES = 40
_QUICK_IMAGES = 8
# Fields that replace a model's own defaults.
_OVERRIDES = (
    "updates",
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "augment",
    "mirror",
    "head",
    "drop_path",
)
# Two real and two synthetic images: batch normalisation cannot be trained on fewer.
_SMALLEST_STRATIFIED = 4
# Below so many validation images per class, the best checkpoint is a matter of luck.
ENOUGH_TO_CHOOSE = 20
_LISTS = {
    "models": str,
    "ratios": float,
    "arms": str,
    "select": str,
    "budgets": str,
    "norms": str,
    "looks": int,
    "tuned": str,
    "weights": str,
    "devices": str,
}


@dataclass(frozen=True)
class GridConfig:
    """A whole grid: models x arms x budgets x seeds on one set of real images.

    `synthetic` is a folder, or several by name ({"syn1": folder, ...}). `ratios` is the short form
    of additive arms: 0,0.5,1 means real, add:0.5, add:1; `arms` come after them. `seeds` is how
    many there are (0, 1, ...), or "auto": a pilot of PILOT_SEEDS, then as many as find a change of
    `detect` points of macro F1, at most `most_seeds`. `looks` are the pilot's seeds, then those at
    which such a grid is looked at; "auto" sets them. `meaningful` is the smallest change of
    interest, in points of macro F1; only the report uses it. `recipe` says how models are trained;
    a field that is None leaves its choice. `validation` is "holdout", "none" or "kfold"; with
    "kfold" the learning rate is chosen by cross-validation inside the real training images.
    `tuned` are files of hyper-parameters, each for one model. `devices` are those of the local
    executor's processes. `redraw` is how many real training images per class each seed draws anew,
    from train and `more_real`; None takes those of train, the same at every seed. With
    `test_share`, `real` has class folders without train and test, and each seed splits them anew:
    that share of each class is tested on. `tests` are folders of further test
    sets by name, with the same classes. `select` names virtual sources ("clean=syn:label"; see
    trainer.config.selection). `cap_amounts` trains an arm with what there is where it
    asks for more images. With "aux" in `norms`, every arm of real and synthetic images is trained a
    second time with batch normalisation of their own for the synthetic ones, and a third time, as
    its control, on the same batches without that ("stratified"); `synthetic_weight` is the weight
    of the synthetic images' loss in both, 1 by default: our choice. With `then_real`, every such
    arm is also trained with the second half of its updates on the real images alone. `quick`
    shrinks images, counts and updates to a smoke run whose numbers mean nothing.
    """

    real: str
    out: str
    synthetic: str | Mapping[str, str] | None = None
    models: tuple[str, ...] = field(default_factory=default_models)
    ratios: tuple[float, ...] | None = None
    arms: tuple[str, ...] = ()
    budgets: tuple[str, ...] = BUDGETS
    norms: tuple[str, ...] = (SHARED,)
    synthetic_weight: float = 1.0
    then_real: bool = False
    more_real: str | None = None
    select: tuple[str, ...] = ()
    tests: Mapping[str, str] = field(default_factory=dict)
    redraw: int | None = None
    test_share: float | None = None
    drop_leaks: bool = False
    cap_amounts: bool = False
    seeds: int | str = 3
    detect: float | None = None
    most_seeds: int = 20
    looks: tuple[int, ...] = ()
    meaningful: float = 1.0
    recipe: str = DEFAULT_RECIPE
    validation: str | None = None
    validation_share: float = 0.2
    image_size_px: int | None = None
    updates: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    augment: str | None = None
    mirror: bool | None = None
    head: str | None = None
    drop_path: float | None = None
    tuned: tuple[str, ...] = ()
    dtype: str = "auto"
    weights: str | tuple[str, ...] | None = None
    allow_untrained: bool = False
    device: str = "auto"
    devices: tuple[str, ...] = ()
    executor: str = "local"
    address: str | None = None
    threads: int | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        check_folders(self.real, self.out, synthetic=self.synthetic, more_real=self.more_real)
        check_tests(self.tests)
        self._check_axes()
        check_number(
            "validation_share", self.validation_share, low=0.0, low_excluded=True, high=0.9
        )
        check_number("meaningful", self.meaningful, low=0.0, low_excluded=True, high=100.0)
        check_choice("recipe", self.recipe, tuple(RECIPES))
        if self.validation is not None:
            check_choice("validation", self.validation, VALIDATIONS)
        check_machine(
            self.device,
            devices=self.devices,
            executor=self.executor,
            address=self.address,
            threads=self.threads,
        )
        if self.image_size_px is not None:
            check_image_size(self.image_size_px)
        for name in ("quick", "allow_untrained", "drop_leaks", "cap_amounts", "then_real"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.validation in (NONE, KFOLD) and RECIPES[self.recipe].keeps_best:
            raise ConfigError(
                f"recipe '{self.recipe}' chooses a checkpoint on validation images; leave out "
                f"--validation {self.validation}, or take --recipe modern"
            )
        for model in self.models:
            model_spec(model).check_image_size(self.image_size_for(model))
            self.check_changes(model, self.training_for(model, train_images=1))
        check_apart(self)
        self._check_arms()

    def _check_axes(self) -> None:
        check_seeds(
            self.seeds,
            detect=self.detect,
            most_seeds=self.most_seeds,
            looks=self.looks,
            quick=self.quick,
        )
        if self.redraw is not None:
            check_whole("redraw", self.redraw, low=1)
        if self.test_share is not None:
            others = ("redraw", "tuned", "drop_leaks", "tests")
            barred = [name for name in others if getattr(self, name)]
            barred += ["validation kfold"] * (self.used_validation == KFOLD)
            check_test_share(self.test_share, given=barred)
        object.__setattr__(self, "models", tuple(model_spec(model).name for model in self.models))
        if not self.models or len(set(self.models)) != len(self.models):
            given = ",".join(map(str, self.models)) or "none"
            raise ConfigError(f"models must name each model once, not {given}")
        for ratio in self.ratios or ():
            check_number("ratio", ratio, low=0.0)
        if self.ratios is not None and (
            0 not in self.ratios or sorted(set(self.ratios)) != list(self.ratios)
        ):
            given = ",".join(f"{ratio:g}" for ratio in self.ratios)
            raise ConfigError(
                f"ratios are {given or 'empty'}; they must rise and start at 0, the real-only cell "
                f"that the others are compared with, as in 0,0.5,1"
            )
        for budget in self.budgets:
            check_choice("budget", budget, BUDGETS)
        if not self.budgets or len(set(self.budgets)) != len(self.budgets):
            given = ",".join(self.budgets) or "none"
            raise ConfigError(f"budgets must name each budget once, not {given}")

    def _check_arms(self) -> None:
        names = [arm.name for arm in self.used_arms]
        if len(set(names)) != len(names):
            raise ConfigError(
                f"arms must name each arm once, not {','.join(names)}; "
                f"--ratios 0,1 means real,add:1"
            )
        if BASELINE not in names:
            raise ConfigError(
                f"arms are {','.join(names)}; they must include real, which the others are "
                f"compared with"
            )
        for name in self.sources:
            if name in NOT_SOURCES or not SOURCE_NAME.fullmatch(name):
                raise ConfigError(
                    f"synthetic source '{name}' does not have a valid name; use letters, digits, "
                    f"'_', '-' and '.', but not {', '.join(NOT_SOURCES)}"
                )
        self._check_selections()
        for arm in self.used_arms:
            resolved_source(arm, self.source_names)
            if arm.regime == "more" and self.more_real is None and self.redraw is None:
                raise ConfigError(
                    f"arm '{arm.name}' needs additional real images; name their folder with "
                    f"--more-real, or draw the training images with --redraw and leave some over"
                )

    def _check_selections(self) -> None:
        names = [name for each in self.selections for name in (each.name, each.random)]
        taken = [*self.sources, *NOT_SOURCES]
        for each in self.selections:
            if each.source not in self.sources:
                known = ", ".join(self.sources) or "none"
                raise ConfigError(
                    f"--select {each.text}: there is no synthetic source '{each.source}', only "
                    f"{known}; name it with --synthetic {each.source}=DIR"
                )
            if each.name in taken or each.random in taken or names.count(each.name) > 1:
                raise ConfigError(f"--select {each.text}: the name '{each.name}' is taken")

    def applies(self, arm: Arm, model: str) -> bool:
        """Whether the arm means anything for the model: a frozen backbone sees whole images."""
        return not (arm.change in MIXES and model_spec(model).frozen)

    def check_changes(self, model: str, training: TrainingConfig) -> None:
        """Raises ConfigError if an arm's augmentation is the one that all cells of `model` have."""
        for arm in self.used_arms:
            same = arm.change and training.changed_by(arm) == training
            if same and self.applies(arm, model):
                plain = BASELINE if arm.regime == AUGMENT else replace(arm, change="").name
                other = "the baseline" if plain == BASELINE else f"'{plain}'"
                kind = arm.change if arm.change in MIXES else f"augmentation '{arm.change}'"
                raise ConfigError(
                    f"arm '{arm.name}' is the same as {other} for {model}, which has {kind} in "
                    "every cell; leave the arm out, or choose another --augment or --recipe"
                )

    @property
    def used_arms(self) -> tuple[Arm, ...]:
        """The arms of this grid, in order: those of `ratios`, then `arms`, then for each that draws
        from a selection the same one drawing at random; last those
        that tell real and synthetic images apart."""
        ratios = (_DEFAULT_RATIOS if not self.arms else ()) if self.ratios is None else self.ratios
        additive = tuple(arm_of_ratio(ratio) for ratio in ratios)
        asked = additive + tuple(parse_arm(text) for text in self.arms)
        random = {each.name: each.random for each in self.selections}
        beside = [
            replace(arm, source="+".join(random.get(name, name) for name in arm.sources))
            for arm in asked
            if random.keys() & set(arm.sources)
        ]
        plain = asked + tuple(arm for arm in beside if arm not in asked)
        kinds = [each for each in (STRATIFIED, AUX) if each in self.used_norms]
        mixed = [arm for arm in plain if arm.is_mixed]
        normed = tuple(replace(arm, norms=kind) for arm in mixed for kind in kinds)
        return (
            plain + normed + tuple(replace(arm, then=BASELINE) for arm in mixed if self.then_real)
        )

    @property
    def used_norms(self) -> tuple[str, ...]:
        """Which norms arms of real and synthetic images are trained with: beside "aux" its
        control."""
        wanted = {*self.norms, *((STRATIFIED,) if AUX in self.norms else ())}
        return tuple(each for each in NORMS if each in wanted)

    @property
    def sources(self) -> dict[str, str]:
        """The synthetic folders by name; a single one without a name is "synthetic"."""
        if self.synthetic is None:
            return {}
        if isinstance(self.synthetic, str):
            return {DEFAULT_SOURCE: self.synthetic}
        return dict(self.synthetic)

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The virtual sources, in the order of `select`."""
        return tuple(parse_selection(text) for text in self.select)

    @property
    def source_names(self) -> tuple[str, ...]:
        """All synthetic sources, the virtual ones last."""
        virtual = (name for each in self.selections for name in (each.name, each.random))
        return (*self.sources, *virtual)

    @property
    def used_validation(self) -> str:
        """Whether real images are held out: "holdout", "none" or "kfold", by default the
        recipe's."""
        return self.validation or RECIPES[self.recipe].validation

    @property
    def held_out_share(self) -> float:
        """The share of the real training images that is held out for validation, 0 for none."""
        return self.validation_share if self.used_validation == HOLDOUT else 0.0

    def budgets_of(self, arm: Arm) -> tuple[str, ...]:
        """The budgets that an arm is trained under: the one shared by all, or those asked for."""
        return tuple(each for each in arm.budgets if each == SHARED_BUDGET or each in self.budgets)

    @property
    def used_seeds(self) -> range:
        """The seeds of this grid; a quick grid has at most two, one that plans them its pilot's."""
        seeds = self.seeds if isinstance(self.seeds, int) else PILOT_SEEDS
        return range(min(seeds, 2) if self.quick else seeds)

    @property
    def used_redraw(self) -> int | None:
        """`redraw`, at most half of what a quick grid reads."""
        quick = self.quick and self.redraw is not None
        return min(self.redraw or 0, _QUICK_IMAGES // 2) if quick else self.redraw

    @property
    def limit_per_class(self) -> int | None:
        """How many images per class of train and of test are used: all, or 8 in a quick grid."""
        return _QUICK_IMAGES if self.quick else None

    def image_size_for(self, model: str) -> int:
        """Side of the square images that `model` sees, in pixels."""
        spec = model_spec(model)
        default_px = spec.quick_image_size_px if self.quick else spec.image_size_px
        return self.image_size_px or default_px

    def training_for(
        self,
        model: str,
        *,
        train_images: int,
        baseline_images: int | None = None,
        held_out: int = 0,
        tuned: Mapping[str, Any] | None = None,
    ) -> TrainingConfig:
        """Hyper-parameters of `model` in the baseline: the recipe's, then what was tuned or given.

        `train_images` is the number in the largest cell, `baseline_images` in the real-only one.
        The updates are the recipe's passes over one of the two, and no fewer than its minimum:
        over the baseline if the recipe fixes them or epochs are the only budget. `held_out` is how
        many validation images the smallest class has: a checkpoint is chosen on no fewer than 20
        per class, unless the recipe always does.

        Raises:
            ConfigError: a value is out of range, or both given as an option and tuned.
        """
        recipe = RECIPES[self.recipe]
        schedule = recipe.schedule(model_spec(model))
        values: dict[str, Any] = {"updates": None, "dtype": self.dtype}
        values |= dict(schedule.training) | self._given_training(model, tuned or {})
        if held_out >= ENOUGH_TO_CHOOSE:
            values["keep"] = "best"
        if self.quick:  # at so few updates, chance is where trainings belong
            values["retries"] = 0
        if not values.get("epochs") and not values["updates"]:
            checked = TrainingConfig(**values | {"updates": 1})
        else:
            checked = TrainingConfig(**values)
        if checked.batch_size < 2 and not model_spec(model).frozen:
            raise ConfigError(
                f"batch_size is {checked.batch_size}; {model} needs at least 2, since batch "
                f"normalisation cannot be trained on a single image"
            )
        if len(self.norms) > 1 and checked.batch_size < _SMALLEST_STRATIFIED:
            raise ConfigError(
                f"batch_size is {checked.batch_size}; --norms needs at least "
                f"{_SMALLEST_STRATIFIED}: two real and two synthetic images"
            )
        baseline_images = train_images if baseline_images is None else baseline_images
        if checked.epochs is not None:
            updates = math.ceil(checked.epochs * baseline_images / checked.batch_size)
            return replace(checked, epochs=None, updates=updates)
        if values["updates"] is not None:
            return checked
        if self.quick:
            return replace(checked, updates=_QUICK_UPDATES)
        fixed = recipe.fixed or "updates" not in self.budgets
        images = baseline_images if fixed else train_images
        passes = math.ceil(schedule.passes * images / checked.batch_size)
        return replace(checked, updates=max(schedule.min_updates, passes))

    def _given_training(self, model: str, tuned: Mapping[str, Any]) -> dict[str, Any]:
        """What replaces the recipe's choices for `model`: options, and tuned values."""
        given = {
            name: getattr(self, name) for name in _OVERRIDES if getattr(self, name) is not None
        }
        spec = model_spec(model)
        if not spec.frozen:
            given.pop("head", None)
        if spec.frozen or not spec.line.stochastic_depth:
            given.pop("drop_path", None)
        given |= {"dtype": self.dtype} if self.dtype != "auto" else {}
        both = sorted(given.keys() & tuned.keys())
        if both:
            raise ConfigError(
                f"{both[0]} of {model} is both given as an option and tuned; leave out the option "
                f"or the file"
            )
        return given | dict(tuned)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GridConfig:
        """The config in a parsed JSON object; the old names `l2` and `precision` are accepted.

        Raises:
            ConfigError: a field is unknown, missing, or out of range.
        """
        values = renamed(values)
        for name, kind in _LISTS.items():
            if name in values and not (name in ("ratios", "weights") and values[name] is None):
                values[name] = to_list(name, kind, values[name])
        return strict(cls, values)

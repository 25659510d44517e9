"""One training's hyper-parameters, and one run: everything that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace

from trainer.arms import AUGMENTATIONS, NORMS, SHARED, SHARED_BUDGET, Arm, parse_arm
from trainer.config.fields import OLD_NAMES, check_choice, check_flag, check_number, check_whole
from trainer.errors import ConfigError
from trainer.models.registry import model_spec

# The usual alphas: Zhang et al. 2018 for ImageNet, Yun et al. 2019.
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
OPTIMISERS = ("adam", "adamw", "sgd")
KEEPS = ("best", "last")
HEADS = ("linear", "logistic", "cosine", "knn")
DTYPES = ("auto", "float32", "bfloat16", "float16")
REAL_LAST = 0.5  # share of the updates of an arm that ends on real images: our choice
MIN_IMAGE_SIZE_PX = 32  # five poolings halve 32 pixels to one
MAX_IMAGE_SIZE_PX = 4096
_RUN_FORMAT = 2  # part of every run's hash: raise it when the same config would train differently


@dataclass(frozen=True)
class TrainingConfig:
    """One model's hyper-parameters, the same in every cell of a grid.

    Either `updates` (optimiser steps) or `epochs` (passes over the cell's own training images) is
    set. With a fixed number of updates, a cell with more images does not also train for longer,
    which is what makes cells comparable. `weight_decay` is the coefficient of the L2 penalty that
    Adam adds to the gradient, or of AdamW's and SGD's decay. `dtype` is the number format that the
    network computes in. A frozen backbone sees `views` augmented views of each training image when
    images are augmented.

    The rest is what recipes choose; the defaults are those of `classic`. The learning rate rises
    over the share `warmup` of the updates, then falls to 0. `mirror` is False where a mirrored
    image means something else. `mixup` and `cutmix` are the alphas of their Beta distributions, 0
    for neither. `average` is the share of the updates over which the weights are averaged, 0 for
    none. `keep` is the checkpoint that is used: "best" of `checkpoints` on the validation images,
    or "last". `head` says how a frozen model's last layer is fitted. Fine-tuning: `head_first`
    fits the last layer before anything else, with the L2 penalty `head_penalty`, 0 for one chosen
    by cross-validation; it then learns `head_rate` times as fast as the layer before, and the first
    layer `bottom_rate` times as fast; `freeze_norms` leaves the statistics of batch normalisation
    as they are; the weights that are used are a mixture, `start_share` of it those that the network
    had with its fitted last layer. A training that diverges or stays at chance starts again with a
    third of the learning rate, `retries` times at most.

    `norms` other than "shared" is for arms of real and synthetic images (trainer.training.norms);
    the loss is then that of the real images plus `synthetic_weight` times that of the synthetic
    ones. `real_last` is the share of the updates, the last ones, that take real images alone.
    `drop_path` is the rate of stochastic depth, for models in which it can be set.
    """

    updates: int | None = 300
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    augment: str = "none"
    views: int = 4
    dtype: str = "auto"
    checkpoints: int = 10
    optimiser: str = "adam"
    warmup: float = 0.0
    mirror: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    average: float = 0.0
    keep: str = "best"
    head: str = "linear"
    head_first: bool = False
    head_rate: float = 1.0
    bottom_rate: float = 1.0
    freeze_norms: bool = False
    retries: int = 0
    norms: str = SHARED
    synthetic_weight: float = 1.0
    real_last: float = 0.0
    drop_path: float = 0.0
    start_share: float = 0.0
    head_penalty: float = 0.0

    def __post_init__(self) -> None:
        if (self.updates is None) == (self.epochs is None):
            raise ConfigError("set either updates or epochs, and not both")
        for name in ("updates", "epochs", "batch_size", "views", "checkpoints"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), low=1)
        check_whole("retries", self.retries, low=0, high=10)
        for name in ("learning_rate", "head_rate", "bottom_rate"):
            check_number(name, getattr(self, name), low=0.0, low_excluded=True)
        for name in ("weight_decay", "mixup", "cutmix", "head_penalty"):
            check_number(name, getattr(self, name), low=0.0)
        check_number(
            "synthetic_weight", self.synthetic_weight, low=0.0, low_excluded=True, high=100.0
        )
        for name in ("warmup", "label_smoothing", "average", "drop_path", "start_share"):
            check_number(name, getattr(self, name), low=0.0, high=0.9)
        for name in ("mirror", "head_first", "freeze_norms"):
            check_flag(name, getattr(self, name))
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        check_choice("keep", self.keep, KEEPS)
        check_choice("head", self.head, HEADS)
        check_choice("norms", self.norms, NORMS)
        check_number("real_last", self.real_last, low=0.0, high=0.9)
        if self.real_last and self.norms != SHARED:
            raise ConfigError("real_last is for shared norms; leave one of the two out")
        for name in ("start_share", "head_penalty"):
            if getattr(self, name) and not self.head_first:
                raise ConfigError(f"{name} is for fine-tuning; set head_first, or leave it out")

    def total_updates(self, train_images: int) -> int:
        """Optimiser steps over `train_images` images."""
        return self.updates or math.ceil(train_images / self.batch_size) * (self.epochs or 0)

    def changed_by(self, arm: Arm, *, synthetic_weight: float = 1.0) -> TrainingConfig:
        """With the augmentation, the norms and the end that an arm asks for.

        Batch normalisation that is frozen has no statistics to keep apart. So it is trained in
        arms with other norms than shared ones, the control among them, even where the recipe
        freezes it: our choice.
        """
        if arm.then:
            return replace(self, real_last=REAL_LAST).changed_by(replace(arm, then=""))
        if arm.norms:
            mine = replace(
                self, norms=arm.norms, synthetic_weight=synthetic_weight, freeze_norms=False
            )
            return mine.changed_by(replace(arm, norms=""))
        if arm.change == "mixup":
            return replace(self, mixup=MIXUP_ALPHA)
        if arm.change == "cutmix":
            return replace(self, cutmix=CUTMIX_ALPHA)
        return replace(self, augment=arm.change or self.augment)


_FIRST_FIELDS = 9  # of TrainingConfig: those that every run's hash covers
_LATER_FIELDS = {each.name: each.default for each in fields(TrainingConfig)[_FIRST_FIELDS:]}


def check_image_size(size_px: object) -> None:
    """Raises ConfigError unless the side of a model's input is a whole number it can have."""
    check_whole("image_size_px", size_px, low=MIN_IMAGE_SIZE_PX, high=MAX_IMAGE_SIZE_PX)


@dataclass(frozen=True)
class RunConfig:
    """One cell of a grid at one seed: everything that its numbers depend on, hence its identity.

    `arm` is an arm's canonical name (see trainer.arms). `training` has the run's own number of
    updates, whatever the budget. `data_fingerprint` covers the images that this run trains,
    validates and tests on, by name, label and content. `weights` says where a pretrained model's
    weights came from ("" for a model trained from scratch).
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
        spec = model_spec(self.model)
        if spec.name != self.model:
            raise ConfigError(
                f"model '{self.model}' is not in its shortest spelling, '{spec.name}'"
            )
        arm = parse_arm(self.arm)
        if arm.name != self.arm:
            raise ConfigError(f"arm '{self.arm}' is not in its shortest spelling, '{arm.name}'")
        check_choice("budget", self.budget, arm.budgets)
        check_whole("seed", self.seed, low=0)
        check_image_size(self.image_size_px)
        if not spec.frozen:
            spec.check_drop_path(self.training.drop_path)

    @property
    def run_id(self) -> str:
        """Readable, and different whenever anything that matters is: "cnn-real-seed0-1a2b3c4d"."""
        values = asdict(self)
        # Hashed as the first version would have, so that finished runs stay finished: under the
        # names that the fields had then, and without later ones that have their default.
        training = values["training"]
        for name, default in _LATER_FIELDS.items():
            if training[name] == default:
                del training[name]
        for old, new in OLD_NAMES.items():
            training[old] = training.pop(new)
        text = json.dumps(values, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        budget = f"-{self.budget}" * (self.budget != SHARED_BUDGET)
        return f"{self.model}-{self.arm}{budget}-seed{self.seed}-{digest[:8]}".replace(":", "-")

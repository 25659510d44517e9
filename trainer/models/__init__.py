"""The models that a grid can train: one builder a file, one line here.

To add one: write `build_x(num_classes)` in a file of this folder, a ModelSpec line below, and a test parameter. This
file imports no torch; a builder is imported when its model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """How one model is built and fed.

    `title` heads a table row and `noun` stands in a sentence. `builder` is "module:function"; the function takes the number of classes. A model with a `head` is frozen up to
    the layer of that name, which is replaced and trained on the `feature_dim` numbers that enter it. `mean` and `std`
    normalise RGB in 0..1 and do not depend on the data. `training` holds fields of TrainingConfig; they were chosen on
    real digits that are in neither part of the sample data. Training takes `passes` over a grid's largest cell, and at
    least `min_updates`, unless told otherwise.
    """

    title: str
    noun: str
    builder: str
    image_size_px: int
    quick_image_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    training: Mapping[str, Any]
    passes: int
    min_updates: int
    head: str = ""
    feature_dim: int = 0

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained."""
        return bool(self.head)

    def build(self, num_classes: int) -> nn.Module:
        """The whole network, freshly initialised from torch's global random state: [N,3,H,W] to [N,num_classes]."""
        module, function = self.builder.split(":")
        network: nn.Module = getattr(importlib.import_module(module), function)(num_classes)
        return network


MODELS: dict[str, ModelSpec] = {
    "cnn": ModelSpec(
        title="Small CNN",
        noun="the small CNN",
        builder="trainer.models.cnn:build_cnn",
        image_size_px=64,
        quick_image_size_px=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        training={"batch_size": 32, "learning_rate": 3e-3, "l2": 5e-4},
        passes=15,
        min_updates=150,
    ),
    "resnet50": ModelSpec(
        title="ResNet50 (frozen)",
        noun="the frozen ResNet50",
        builder="trainer.models.resnet50:build_resnet50",
        image_size_px=224,
        quick_image_size_px=64,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        training={"batch_size": 64, "learning_rate": 1e-3, "l2": 1e-3},
        passes=30,
        min_updates=300,
        head="fc",
        feature_dim=2048,
    ),
}


def model_spec(name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in MODELS:
        raise ConfigError(f"model '{name}' is unknown; choose from {', '.join(MODELS)}")
    return MODELS[name]

"""Recipes: named, frozen sets of choices for how models are trained.

    classic   as the papers that SynthGrid follows describe it: Adam with an L2 penalty, dropout, no
              augmentation, the checkpoint that validates best
    modern    what a strong baseline takes where images are few; the default

A recipe says how each kind of model is trained, for how long, and whether real images are held out
for validation. Everything it says is the same in every cell of a grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.models.registry import FINETUNE, FROZEN, SCRATCH, ModelSpec

HOLDOUT, NONE, KFOLD = VALIDATIONS = ("holdout", "none", "kfold")


@dataclass(frozen=True)
class Schedule:
    """How a kind of model is trained: fields of TrainingConfig, then how long.

    Training takes `passes` over the images and at least `min_updates`.
    """

    training: Mapping[str, Any]
    passes: int
    min_updates: int


@dataclass(frozen=True)
class Recipe:
    """A recipe; `schedules` by mode and kind of model is empty for the registry's own defaults.

    `fixed` means that the number of updates depends on the real images alone, not on a grid's
    largest cell, so that a grid can be extended. `validation` is the default.
    """

    name: str
    summary: str
    validation: str
    fixed: bool
    schedules: Mapping[tuple[str, str], Schedule]

    @property
    def keeps_best(self) -> bool:
        """Whether the recipe always chooses a checkpoint on validation images."""
        return not self.schedules

    def schedule(self, spec: ModelSpec) -> Schedule:
        """How this model is trained."""
        if not self.schedules:
            return Schedule(spec.training, spec.passes, spec.min_updates)
        return self.schedules[spec.mode, _kind(spec)]


def _kind(spec: ModelSpec) -> str:
    """ "cnn" for the small one, "plain" for networks without batch normalisation, else "norm"."""
    if spec.architecture == "cnn":
        return "cnn"
    return "norm" if spec.line.batch_norm else "plain"


# With 30 real images per class none can be spared to choose a checkpoint on: the last weights are
# kept, averaged over the end of training. The warm-up and the decay of AdamW are common values.
_SCRATCH: Mapping[str, Any] = {
    "optimiser": "adamw",
    "batch_size": 32,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "augment": "trivial",
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "average": 0.05,
    "keep": "last",
    "retries": 2,
}
# Chosen with lite0 on parts of the training images of CIFAKE, dogs, flowers and PACS, 5 and 30 per
# class; benchmarks/evidence/finetune.py has the figures. A penalty of 300 leaves the frozen model
# about as accurate but less sure, and the last layer is no faster than the others: so the layers
# before it learn too. Lower rates towards the first were worse. A quarter of the start in the final
# weights (Wortsman et al. 2022) keeps tuning from being worse than the frozen backbone.
_FINETUNE: Mapping[str, Any] = {
    **_SCRATCH,
    "head_first": True,
    "head_penalty": 300.0,
    "freeze_norms": True,
    "start_share": 0.25,
}
_FROZEN: Mapping[str, Any] = {
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 1e-3,
    "keep": "last",
    "head": "logistic",
}
# Stochastic depth, which `--drop-path` sets, was not measured where images are few: left out.
# How long. With 30 real images per class (CIFAR-10 and 12 kinds of flowers at 32 px, measured on
# parts of their training images), twice 1,200 updates were no better. With 200 per class 2,000
# updates were too few, training accuracy 78%: hence passes as well. Random crops were worse than
# small moves for the small CNN at 32 px, 43% against 47%, so "trivial" moves.
_MODERN = {
    (SCRATCH, "cnn"): Schedule({**_SCRATCH, "learning_rate": 3e-3}, 60, 1200),
    (SCRATCH, "norm"): Schedule({**_SCRATCH, "learning_rate": 2e-3}, 60, 1200),
    (SCRATCH, "plain"): Schedule({**_SCRATCH, "learning_rate": 3e-4}, 60, 1200),
    (FINETUNE, "cnn"): Schedule({**_FINETUNE, "learning_rate": 1e-3}, 15, 300),
    (FINETUNE, "norm"): Schedule({**_FINETUNE, "learning_rate": 2e-4}, 15, 300),
    # Transformers and VGG were not measured: a low rate, lower towards the first layer, is usual.
    # The last layer is faster, or it would stay where it started.
    (FINETUNE, "plain"): Schedule(
        {**_FINETUNE, "learning_rate": 3e-5, "head_rate": 10.0, "bottom_rate": 0.1}, 15, 300
    ),
    **{(FROZEN, kind): Schedule(_FROZEN, 30, 300) for kind in ("cnn", "norm", "plain")},
}
RECIPES = {
    each.name: each
    for each in (
        Recipe(
            "classic",
            "Adam with an L2 penalty, no augmentation, the checkpoint that validates best",
            HOLDOUT,
            False,
            {},
        ),
        Recipe(
            "modern",
            "AdamW with a warm-up, TrivialAugment, mixup, label smoothing, averaged last weights; "
            "a logistic regression on frozen backbones",
            NONE,
            True,
            _MODERN,
        ),
    )
}
DEFAULT_RECIPE = "modern"

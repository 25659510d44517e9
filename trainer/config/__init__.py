"""The options of a training, a run and a grid: frozen dataclasses, checked when they are made.

No torch: the report reads these too.
"""

from trainer.arms import AUGMENTATIONS
from trainer.config.draws import AUTO, PILOT_SEEDS
from trainer.config.fields import read_json, renamed
from trainer.config.grid import DEFAULT_SOURCE, GridConfig
from trainer.config.machine import DEVICES, EXECUTORS
from trainer.config.recipes import DEFAULT_RECIPE, KFOLD, RECIPES, VALIDATIONS
from trainer.config.run import DTYPES, HEADS, RunConfig, TrainingConfig

__all__ = [
    "AUGMENTATIONS",
    "AUTO",
    "DEFAULT_RECIPE",
    "DEFAULT_SOURCE",
    "DEVICES",
    "DTYPES",
    "EXECUTORS",
    "HEADS",
    "KFOLD",
    "PILOT_SEEDS",
    "RECIPES",
    "VALIDATIONS",
    "GridConfig",
    "RunConfig",
    "TrainingConfig",
    "read_json",
    "renamed",
]

"""The options of a training, a run and a grid: frozen dataclasses, checked when they are made.

No torch: the report reads these too.
"""

from trainer.config.fields import read_json, renamed
from trainer.config.grid import DEFAULT_SOURCE, DEVICES, EXECUTORS, GridConfig
from trainer.config.run import AUGMENTATIONS, DTYPES, RunConfig, TrainingConfig

__all__ = [
    "AUGMENTATIONS",
    "DEFAULT_SOURCE",
    "DEVICES",
    "DTYPES",
    "EXECUTORS",
    "GridConfig",
    "RunConfig",
    "TrainingConfig",
    "read_json",
    "renamed",
]

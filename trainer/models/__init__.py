"""The models that a grid can train, and their pretrained weights. No torch until one is built."""

from trainer.models.registry import (
    FINETUNE,
    FROZEN,
    MODELS,
    MODES,
    SCRATCH,
    Architecture,
    Defaults,
    ModelSpec,
    default_models,
    model_spec,
)

__all__ = [
    "FINETUNE",
    "FROZEN",
    "MODELS",
    "MODES",
    "SCRATCH",
    "Architecture",
    "Defaults",
    "ModelSpec",
    "default_models",
    "model_spec",
]

"""What a pretraining run is asked to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from trainer.errors import ConfigError
from trainer.models.registry import ModelSpec, model_spec

METHODS = ("stablerep", "stablerep+", "simclr", "supcon", "supervised")
STABLEREP, STABLEREP_PLUS, SIMCLR, SUPCON, SUPERVISED = METHODS
CAPTION, CLASS = POSITIVES = ("caption", "class")
_SHORT = {"vit_s": "timm:vit_small_patch16_224"}


@dataclass(frozen=True)
class PretrainConfig:
    """One run. `batch_views` changed images a step come from `per_caption` images of each drawn
    caption with stablerep and stablerep+, and from two changes of every image with the others.

    `base_rate` is the learning rate per 512 views; `warmup` a share of the updates; `width` and
    `out` are the projector's, 0 for min(4096, 4 x the features). `text_width` and `text_layers`
    are those of stablerep+'s text tower.
    """

    model: str
    method: str = STABLEREP
    positives: str = ""
    updates: int = 1000
    batch_views: int = 240
    per_caption: int = 6
    temperature: float = 0.1
    base_rate: float = 2e-4
    weight_decay: float = 0.1
    warmup: float = 0.05
    width: int = 0
    out: int = 256
    image_size_px: int = 0
    crop: float = 0.08
    mirror: bool = True
    seed: int = 0
    text_width: int = 256
    text_layers: int = 4

    @property
    def by_caption(self) -> bool:
        """Whether a step draws captions, and several images of each."""
        return self.method in (STABLEREP, STABLEREP_PLUS)

    @property
    def each(self) -> int:
        """Views per drawn caption, or per drawn image."""
        return self.per_caption if self.by_caption else 2

    @property
    def drawn(self) -> int:
        """Captions per step, or images."""
        return self.batch_views // self.each

    @property
    def rate(self) -> float:
        """The peak learning rate: base_rate x views / 512."""
        return self.base_rate * self.drawn * self.each / 512

    @property
    def spec(self) -> ModelSpec:
        """Of the backbone."""
        return model_spec(self.model)

    def as_dict(self) -> dict[str, Any]:
        """What config.json keeps: every setting; those of the text tower where there is one."""
        values = dataclasses.asdict(self)
        if self.method != STABLEREP_PLUS:
            del values["text_width"], values["text_layers"]
        return values


def new_config(**given: Any) -> PretrainConfig:
    """A checked configuration with the model's canonical name and its image size filled in.

    Raises:
        ConfigError: a value is unknown or out of range.
    """
    config = PretrainConfig(**given)
    if config.method not in METHODS:
        raise ConfigError(f"--method {config.method} is unknown; choose from {', '.join(METHODS)}")
    if config.method == SIMCLR and config.positives:
        raise ConfigError("--positives has no meaning with simclr, where an image is its own kind")
    if config.method == SUPERVISED and config.positives:
        raise ConfigError("--positives has no meaning with supervised, which learns the classes")
    positives = config.positives or (CLASS if config.method == SUPCON else CAPTION)
    if positives not in POSITIVES:
        raise ConfigError(f"--positives {positives} is unknown; choose caption or class")
    spec = model_spec(_SHORT.get(config.model, config.model))
    config = dataclasses.replace(
        config,
        model=spec.architecture,
        positives="" if config.method in (SIMCLR, SUPERVISED) else positives,
        image_size_px=config.image_size_px or spec.line.image_size_px,
        width=config.width or min(4096, 4 * spec.feature_dim),
    )
    _check_ranges(config)
    spec.check_image_size(config.image_size_px)
    return config


def _check_ranges(config: PretrainConfig) -> None:
    checks = {
        "--updates": (config.updates, config.updates >= 1, "at least 1"),
        "--per-caption": (config.per_caption, config.per_caption >= 2, "at least 2"),
        "--batch": (config.batch_views, config.drawn >= 2, f"at least {2 * config.each}"),
        "--temperature": (config.temperature, config.temperature > 0, "above 0"),
        "--base-rate": (config.base_rate, config.base_rate > 0, "above 0"),
        "--weight-decay": (config.weight_decay, config.weight_decay >= 0, "at least 0"),
        "--warmup": (config.warmup, 0 <= config.warmup < 1, "from 0 to below 1"),
        "--crop": (config.crop, 0 < config.crop <= 1, "above 0 and at most 1"),
        "--text-width": (
            config.text_width,
            config.text_width > 0 and config.text_width % 64 == 0,
            "a multiple of 64",
        ),
        "--text-layers": (config.text_layers, config.text_layers >= 1, "at least 1"),
        "--image-size": (config.image_size_px, config.image_size_px >= 32, "at least 32"),
    }
    for option, (value, fits, expected) in checks.items():
        if not fits:
            raise ConfigError(f"{option} must be {expected}, not {value}")

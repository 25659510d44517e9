"""Any classifier of the timm library (an optional dependency), by its name there."""

from __future__ import annotations

import difflib
import functools
from typing import Any

import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from trainer.errors import ConfigError
from trainer.models.registry import TIMM, Architecture


@functools.lru_cache(maxsize=256)
def timm_line(name: str) -> Architecture:
    """The registry line of a timm model, from timm's own configuration.

    Raises:
        ConfigError: timm knows no such model, or its last layer is not a single named one.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = (
            f"did you mean '{TIMM}:{near[0]}'?"
            if near
            else "list them with: python -c 'import timm; print(timm.list_models())'"
        )
        raise ConfigError(f"timm {timm.__version__} has no model '{name}'; {hint}")
    config: Any = timm.get_pretrained_cfg(name)
    if not isinstance(config.classifier, str):
        raise ConfigError(
            f"model '{TIMM}:{name}' has no single last layer to replace; choose another timm model"
        )
    side = int(config.input_size[-1])
    return Architecture(
        title=f"{name} of timm",
        builder="trainer.models.timm_models:build_timm",
        variant=name,
        head=config.classifier,
        image_size_px=side,
        scratch_size_px=side if config.fixed_input_size else 64,
        quick_image_size_px=side if config.fixed_input_size else 64,
        mean=config.mean,
        std=config.std,
        batch_norm=_has(nn.BatchNorm2d, name),
        stochastic_depth=_has(DropPath, name, drop_path_rate=0.1),
    )


def _has(layer: type[nn.Module], name: str, **options: Any) -> bool:
    """Whether the model has such a layer when built with these options; not if it refuses them."""
    try:
        with torch.device("meta"):  # no memory, no numbers
            network = timm.create_model(name, pretrained=False, **options)
    except TypeError:
        return False
    return any(isinstance(each, layer) for each in network.modules())


def build_timm(
    name: str, num_classes: int, image_size_px: int, *, drop_path: float = 0.0
) -> nn.Module:
    """A timm model with random weights; `drop_path` is the rate of stochastic depth, 0 for the
    model's own.

    Raises:
        ConfigError: it does not take images of that size, or its last layer is not linear.
    """
    config: Any = timm.get_pretrained_cfg(name)
    further: dict[str, Any] = {"img_size": image_size_px} if config.fixed_input_size else {}
    if drop_path:
        further["drop_path_rate"] = drop_path
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=num_classes, **further
        )
        last = network.get_submodule(str(config.classifier))
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0][:120]
        raise ConfigError(
            f"model '{TIMM}:{name}' cannot be built for images of {image_size_px} pixels: {reason}"
        ) from error
    if not isinstance(last, nn.Linear):
        raise ConfigError(
            f"model '{TIMM}:{name}' ends in a {type(last).__name__}, not a Linear; choose another "
            "timm model"
        )
    return network

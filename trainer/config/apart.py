"""Arms that tell real and synthetic images apart in training: --norms and --then-real, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trainer.arms import AUX, NORMS, SHARED, Arm, plain_arm
from trainer.config.fields import check_choice, check_number
from trainer.errors import ConfigError
from trainer.models.registry import model_spec


class Asked(Protocol):
    """What of a grid's config is looked at."""

    @property
    def models(self) -> Sequence[str]: ...
    @property
    def arms(self) -> Sequence[str]: ...
    @property
    def norms(self) -> Sequence[str]: ...
    @property
    def synthetic_weight(self) -> float: ...
    @property
    def then_real(self) -> bool: ...
    @property
    def used_arms(self) -> Sequence[Arm]: ...


def check_apart(asked: Asked) -> None:
    """Raises ConfigError if an option means nothing for a model or for all arms, or is out of
    range."""
    for each in asked.norms:
        check_choice("norms", each, NORMS)
    if SHARED not in asked.norms or len(set(asked.norms)) != len(asked.norms):
        given = ",".join(asked.norms) or "none"
        raise ConfigError(
            f"norms are {given}; they must include {SHARED}, which the others are beside, and "
            f"name each once, as in {SHARED},{AUX}"
        )
    check_number("synthetic_weight", asked.synthetic_weight, low=0.0, low_excluded=True, high=100.0)
    for text in asked.arms:
        if plain_arm(text) != text:
            raise ConfigError(
                f"arm '{text}' is made by the grid, with its control; leave it out and give "
                f"--norms {SHARED},{AUX} or --then-real"
            )
    if asked.then_real:
        for model in asked.models:
            if model_spec(model).frozen:
                raise _meaningless(model, "its last layer only", "--then-real")
        _check_mixed(asked, "--then-real")
    if len(asked.norms) > 1:
        for model in asked.models:
            if not model_spec(model).trains_batch_norm:
                raise _meaningless(model, "no batch normalisation", "--norms")
        _check_mixed(asked, "--norms")
    elif asked.synthetic_weight != 1.0:
        raise ConfigError(f"synthetic_weight is for --norms {SHARED},{AUX}; leave it out")


def _meaningless(model: str, trains: str, option: str) -> ConfigError:
    return ConfigError(
        f"model '{model}' trains {trains}, so {option} means nothing for it; leave the model out, "
        f"or {option}"
    )


def _check_mixed(asked: Asked, option: str) -> None:
    if not any(arm.is_mixed for arm in asked.used_arms):
        raise ConfigError(
            f"no arm trains on both real and synthetic images, so {option} means nothing; add one "
            "such as add:1"
        )

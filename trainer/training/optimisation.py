"""What one update does to the weights: the optimiser and its rates; the average of the weights, and
their mixture with those before."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.config import TrainingConfig

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAIN, AUXILIARY = "main", "auxiliary"  # the two layers of a pair: see trainer.training.norms


def learning_rate_at(update: int, updates: int, *, peak: float, warmup: float = 0.0) -> float:
    """Half a cosine from `peak` at update 0 down to 0 at the end; with a warm-up, a straight line
    up to `peak` over that share of the updates comes first."""
    rising = math.ceil(warmup * updates)
    if update < rising:
        return peak * (update + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (update - rising) / (updates - rising)))


def new_optimiser(
    network: nn.Module, config: TrainingConfig, *, head: str | None = None
) -> torch.optim.Optimizer:
    """The optimiser over all parameters. Each group's "scale" multiplies the learning rate.

    `head` is the path of the last layer, which fine-tuning trains faster than the layers before.
    """
    if config.optimiser == "adam":
        groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "scale": 1.0}]
        return torch.optim.Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    groups = _groups(network, config, head)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)


def _groups(network: nn.Module, config: TrainingConfig, head: str | None) -> list[dict[str, Any]]:
    """A group per rate and decay. Biases and normalisation, which have one dimension, do not decay.

    From the first to the last layer before the head the rate grows geometrically, by position among
    the parameters: the order in which a network declares its layers is that of its depth in every
    registered architecture. So one rule serves all, where layer-wise decay (Howard and Ruder 2018)
    counts layers by name. The auxiliary layer of a pair learns as fast as its main one.
    """
    named = [(name, each) for name, each in network.named_parameters() if each.requires_grad]
    body = [name for name, _ in named if head is None or not name.startswith(f"{head}.")]
    body = [name for name in body if name == _of_main(name)]
    depth = {name: position / max(1, len(body) - 1) for position, name in enumerate(body)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in named:
        place = depth.get(_of_main(name))
        scale = config.head_rate if place is None else config.bottom_rate ** (1 - place)
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault(
            (scale, decay), {"params": [], "scale": scale, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return list(groups.values())


def _of_main(name: str) -> str:
    """The parameter of the main layer that belongs to one of an auxiliary layer; others as they
    are."""
    return name.replace(f".{AUXILIARY}.", f".{MAIN}.")


def training_mode(network: nn.Module, *, freeze_norms: bool) -> None:
    """Training mode; with `freeze_norms`, batch normalisation keeps the statistics it has."""
    network.train()
    if freeze_norms:
        for module in network.modules():
            if isinstance(module, BATCH_NORM):
                module.eval()


class Average:
    """A copy of a network, `module`, whose weights and statistics follow it as an exponential
    average.

    torch's AveragedModel computes the same, but counts updates in a tensor that it copies to the
    device twice an update, and waits.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(network)
        self._follow = get_ema_multi_avg_fn(decay)
        self._begun = False

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes up the network's weights: the first time as they are."""
        for floating in (True, False):
            own, latest = (
                [each for each in _tensors_of(module) if each.is_floating_point() == floating]
                for module in (self.module, network)
            )
            if not own:
                continue
            if self._begun:
                self._follow(own, latest, 0)
            else:
                torch._foreach_copy_(own, latest)
        self._begun = True


def _tensors_of(network: nn.Module) -> Iterator[torch.Tensor]:
    """Its parameters and buffers."""
    return chain(network.parameters(), network.buffers())


@torch.no_grad()
def interpolate(network: nn.Module, start: Mapping[str, torch.Tensor], share: float) -> None:
    """Moves weights and statistics the share of the way back to `start`, a state dict, in place:
    equation 1 of Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", whose alpha is
    1 - `share`."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name], share)


def averaged(network: nn.Module, config: TrainingConfig, updates: int) -> Average | None:
    """The average of a network over the last share `average` of the updates; None without."""
    if not config.average:
        return None
    return Average(network, decay=1 - 1 / max(2.0, config.average * updates))

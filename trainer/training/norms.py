"""Auxiliary batch normalisation: real and synthetic images each normalised by their own statistics.

Synthetic images have other statistics than real ones, and a mixed batch gives batch normalisation
an average that suits neither. So each layer becomes a pair: real rows go through the main layer,
synthetic rows through an auxiliary one that starts as its copy (Xie et al. 2020, arXiv 1911.09665,
for adversarial images; "Diversify, Don't Fine-Tune", arXiv 2312.02253, for synthetic ones).
Whatever is evaluated or saved goes through the main layers alone.

The loss is that of the real images plus `synthetic_weight` times that of the synthetic ones, each a
mean over its own rows. The default weight of 1 is our choice. So is it that mixup and CutMix mix
real images with real ones and synthetic with synthetic ones: a blend of both would belong to
neither layer. "stratified" has the same batches, the same loss and the same mixing, without pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from trainer.errors import RunError
from trainer.training.optimisation import AUXILIARY, BATCH_NORM, MAIN


@dataclass
class Route:
    """How many rows of the batch at hand are real; they come first. None: all are."""

    real: int | None = None


class PairedNorm(nn.Module):
    """Two layers of batch normalisation: in training, `main` for a batch's real rows and
    `auxiliary` for the others; in evaluation `main` alone. [N,...] to the same shape."""

    main: nn.Module
    auxiliary: nn.Module

    def __init__(self, main: nn.Module, route: Route) -> None:
        super().__init__()
        self.add_module(MAIN, main)
        self.add_module(AUXILIARY, copy.deepcopy(main))
        self.route = route

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        real = self.route.real
        if not self.training or real is None:
            found: torch.Tensor = self.main(values)
            return found
        return torch.cat([self.main(values[:real]), self.auxiliary(values[real:])])


@contextmanager
def paired_norms(network: nn.Module) -> Iterator[Route]:
    """Meanwhile each batch normalisation inside the network is a pair; afterwards only the main
    layers are left, so that no auxiliary weight reaches a file.

    Raises:
        RunError: the network has no batch normalisation.
    """
    route = Route()
    if not _replace(network, BATCH_NORM, lambda norm: PairedNorm(norm, route)):
        raise RunError("the network has no batch normalisation; train it without --norms")
    try:
        yield route
    finally:
        _replace(network, (PairedNorm,), lambda pair: pair.get_submodule(MAIN))


def route_of(network: nn.Module) -> Route:
    """The route of a network's pairs; without pairs, one that nothing follows."""
    pairs = (each.route for each in network.modules() if isinstance(each, PairedNorm))
    return next(pairs, Route())


def _replace(
    network: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    new: Callable[[nn.Module], nn.Module],
) -> int:
    """Replaces the modules of these kinds below the network, in place; how many there were."""
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                made[child] = made.get(child) or new(child)
                setattr(parent, name, made[child])
    return len(made)

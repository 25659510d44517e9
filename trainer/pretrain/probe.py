"""How good a frozen backbone's features are for a few real images per class.

Heads are fitted to a few shots and judged on real test images. The logistic head's strength is
chosen by folds of the shots, never by the test images. All backbones get the same shots, so that
differences are taken within a draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import nn

from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.pretrain.views import generator_at
from trainer.training.heads import fit_head, fit_logistic, new_head

HEADS = ("logistic", "knn")


@dataclass(frozen=True)
class Features:
    """float32 [n,D] of the training and of the test images."""

    train: torch.Tensor
    test: torch.Tensor


@dataclass(frozen=True)
class Score:
    """Test accuracy of one backbone, head and number of shots, a share per draw, with the 95 %
    interval of the mean (Student's t over draws; None for one draw)."""

    backbone: str
    head: str
    shots: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the draws, a share."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean, shares; None for one draw."""
        return interval_of(self.accuracies)

    def above(self, other: Score) -> tuple[float, tuple[float, float] | None]:
        """How much better than `other` in the same draws, with its interval."""
        steps = [a - b for a, b in zip(self.accuracies, other.accuracies, strict=True)]
        return sum(steps) / len(steps), interval_of(steps)


def interval_of(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean, by Student's t; None for fewer than two values. It covers the
    draw of the shots, not that of the test images nor of the pretraining."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    spread = math.sqrt(sum((each - mean) ** 2 for each in values) / (count - 1))
    reach = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    return mean - reach, mean + reach


def draw_shots(labels: torch.Tensor, *, shots: int, draw: int, classes: int) -> torch.Tensor:
    """The training rows of a draw, `shots` of each class. Fewer shots are among more of them."""
    rows = []
    for label in range(classes):
        own = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(own), generator=generator_at(draw, f"shots of {label}", 0))
        rows.append(own[order[:shots]])
    return torch.cat(rows)


def check_shots(shots: Sequence[int], train: Sequence[Sample]) -> None:
    """Raises DataError if a number is below 1 or above what the smallest class has."""
    counts: dict[str, int] = {}
    for sample in train:
        counts[sample.label] = counts.get(sample.label, 0) + 1
    label = min(counts, key=lambda each: (counts[each], each))
    for number in shots:
        if not 1 <= number <= counts[label]:
            raise DataError(
                f"--shots {number} does not suit the data: class '{label}' has {counts[label]} "
                f"training images; choose 1 to {counts[label]}"
            )


def probe(
    backbones: Mapping[str, Features],
    train_labels: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    shots: Sequence[int],
    draws: int,
) -> list[Score]:
    """Every backbone, head and number of shots, int64 labels [n] from 0 on. Where the shots are all
    that there is, one draw is all draws, and there is no interval."""
    classes = int(train_labels.max()) + 1
    most = int(torch.bincount(train_labels).max())
    found = []
    for name, features in backbones.items():
        for number in shots:
            rows = [
                draw_shots(train_labels, shots=number, draw=draw, classes=classes)
                for draw in range(1 if number >= most else draws)
            ]
            for head in HEADS:
                scores = tuple(
                    _accuracy(head, features, train_labels, test_labels, each, draw)
                    for draw, each in enumerate(rows)
                )
                found.append(Score(name, head, number, scores))
    return found


def _accuracy(
    head: str,
    features: Features,
    train_labels: torch.Tensor,
    test_labels: torch.Tensor,
    rows: torch.Tensor,
    draw: int,
) -> float:
    labels, classes = train_labels[rows], int(train_labels.max()) + 1
    values, test = _scaled(features.train[rows], features.test)
    if head == "knn":
        layers = nn.Sequential(*new_head("knn", values.shape[1], classes))
        fit_head("knn", layers, values, labels)
        logits = layers(test)
    else:
        fit = fit_logistic(values, labels, num_classes=classes, seed=draw)
        logits = test @ fit.weight.to(test.dtype).T + fit.bias.to(test.dtype)
    share: float = (logits.argmax(dim=1) == test_labels).float().mean().item()
    return share


def _scaled(shots: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both centred and divided by deviations of the shots alone. Few shots tell little of a single
    feature's variance, so each counts half, and half the mean over all features (our choice):
    features that hardly vary, as many of a random network do, are not blown up to the size of the
    others."""
    variance = shots.var(dim=0)
    scale = ((variance + variance.mean()) / 2).sqrt().clamp(min=1e-6)
    mean = shots.mean(dim=0)
    return (shots - mean) / scale, (test - mean) / scale

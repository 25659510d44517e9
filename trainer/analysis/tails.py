"""Head, middle and tail: classes with many, some and few real training images, judged apart.

Common in long-tailed recognition (Liu et al. 2019, arXiv 1904.05160, by fixed numbers of images).
Terciles of the classes by their number of real images, and from which imbalance on they are shown,
are our choice: fixed numbers mean nothing at a few images per class. No torch, no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.stats import CHANGE, Estimate, contrast

GROUPS = ("head", "middle", "tail")
UNEVEN = 3.0  # times as many real images in the largest class as in the smallest


@dataclass(frozen=True)
class GroupChange:
    """The classes of a group, by index, the `real` images of the smallest and the largest of them,
    and their mean recall, 0..1: with real only, with another cell, and the change."""

    classes: tuple[int, ...]
    real: tuple[int, int]
    before: float
    after: float
    change: Estimate


def frequency_groups(real: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The classes, by index, of each group, those with most real images first; none if the largest
    class has less than 3 times as many as the smallest, or there are fewer than 3 classes."""
    if len(real) < len(GROUPS) or max(real) < UNEVEN * max(1, min(real)):
        return {}
    order = sorted(range(len(real)), key=lambda label: (-real[label], label))
    parts = np.array_split(np.array(order), len(GROUPS))
    return {name: tuple(part.tolist()) for name, part in zip(GROUPS, parts, strict=True)}


def group_changes(
    true: np.ndarray,
    before: Mapping[int, np.ndarray],
    after: Mapping[int, np.ndarray],
    real: Sequence[int],
    *,
    overlap: float | None = None,
) -> dict[str, GroupChange]:
    """The change in each group's mean recall, paired by seed and test image; {} without groups.

    `true` has class indices [N], `before` and `after` the predicted ones by seed, `real` the real
    training images of each class. `overlap` is that of CellScores.
    """
    found = {}
    for name, classes in frequency_groups(real).items():
        tested = [label for label in classes if (true == label).any()]
        if not tested:
            continue
        cells = [_recall(true, runs, tested, overlap) for runs in (after, before)]
        change = contrast([(1.0, cells[0]), (-1.0, cells[1])], bounds=CHANGE)
        if change is not None:
            counts = [real[label] for label in classes]
            means = [float(cell.values.mean()) for cell in cells]
            found[name] = GroupChange(
                classes, (min(counts), max(counts)), means[1], means[0], change
            )
    return found


def _recall(
    true: np.ndarray, runs: Mapping[int, np.ndarray], classes: Sequence[int], overlap: float | None
) -> CellScores:
    """The mean recall of some classes, and what each test image counts in it."""
    seeds = tuple(sorted(runs))
    right = np.stack([runs[seed] == true for seed in seeds]).astype(np.float64)
    values, effects = np.zeros(len(seeds)), np.zeros(right.shape)
    counts = [int((true == label).sum()) for label in classes]
    for label, n in zip(classes, counts, strict=True):
        images = true == label
        recall = right[:, images].mean(axis=1)
        values += recall / len(classes)
        centred = (right[:, images] - recall[:, None]) * (n / max(1, n - 1)) ** 0.5
        effects[:, images] = centred / n / len(classes)
    least = float(np.mean([1 / n for n in counts])) / len(classes)
    return CellScores(seeds, values, effects, least, overlap)

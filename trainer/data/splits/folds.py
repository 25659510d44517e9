"""Parts of the training images that are held out: for validation, and as folds to tune on.

Images of one group (see trainer.data.splits.groups) are held out together, so that near-copies of a
training image never choose a checkpoint or a hyper-parameter. Without groups every image is one of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trainer.data.samples import Sample
from trainer.errors import DataError

Folds = list[tuple[np.ndarray, np.ndarray]]


def fold_splits(samples: Sequence[Sample], folds: int, *, seed: int) -> Folds:
    """(training, held-out) row numbers of each fold, int64, stratified by class.

    Raises:
        DataError: a class has fewer groups than folds, or cannot be in the training part of each.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = np.array([each.label for each in samples])
    rows = np.zeros(len(samples))
    if not any(each.group for each in samples):
        plain = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(plain.split(rows, labels))
    groups = np.array([group_of(each) for each in samples])
    for label in sorted(set(labels)):
        count = len(set(groups[labels == label]))
        if count < folds:
            raise DataError(
                f"class '{label}' has {count} groups of training images for {folds} folds; use "
                "fewer --folds, or split with fewer large groups"
            )
    grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found: Folds = list(grouped.split(rows, labels, groups))
    for train, held in found:
        if set(labels[train]) != set(labels) or not len(held):
            raise DataError(
                f"the groups of images are too large for {folds} folds of every class; use fewer "
                "--folds"
            )
    return found


def group_of(sample: Sample) -> str:
    """The image's group, or a name of its own."""
    return sample.group or f"{sample.source}/{sample.file}"


def group_numbers(samples: Sequence[Sample]) -> list[int]:
    """A number for each sample, the same for those of one group, and for an image and its rotated
    or mirrored copies."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(each.group or str(each.path), len(numbers)) for each in samples]


def hold_out(
    ordered: Mapping[str, Sequence[Sample]], wanted: Callable[[int], int]
) -> dict[str, list[Sample]]:
    """The images of each class that are held out: the first `wanted(count)` in the given order, or
    as many whole groups of them as fit into that number, but at least one.

    Classes are decided one after the other, and a group that spans several is held out in all of
    them or in none.

    Raises:
        DataError: nothing of a class would be left to train or to validate on.
    """
    is_held: dict[str, bool] = {}
    found: dict[str, list[Sample]] = {}
    for label, samples in ordered.items():
        sizes = Counter(group_of(each) for each in samples)
        left = wanted(len(samples)) - sum(
            count for group, count in sizes.items() if is_held.get(group)
        )
        undecided = [group for group in sizes if group not in is_held]
        for group in undecided:
            is_held[group] = sizes[group] <= left
            left -= sizes[group] * is_held[group]
        if undecided and not any(is_held[group] for group in sizes):
            is_held[min(undecided, key=lambda group: sizes[group])] = True
        found[label] = [each for each in samples if is_held[group_of(each)]]
        if not found[label] or len(found[label]) == len(samples):
            raise DataError(
                f"the {len(samples)} training images of class '{label}' are in {len(sizes)} groups "
                "of look-alikes, too few to hold some out for validation; add other images, or "
                "remove groups.csv to ignore the groups"
            )
    return found

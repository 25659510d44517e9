"""Whether a prompt as a whole shows something else: classes, and class x template, context, style.

A head learns what most images of a class show, so a context in which every "crane" is a machine
looks right to it. Here each context is judged by heads that have not seen it, and a class by how
many of its images are unlike all real ones. A group is named, never rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from trainer.quality.images import Origin
from trainer.quality.probabilities import fit_head

FIELDS = ("template", "context", "style")
_FOLDS = 10
_FEWEST = 4  # images; of fewer nothing can be said
_LEVEL = 0.05  # after Holm's correction over all groups
_LEAST_SHARE = 0.2  # of a group's images
_CHANCE = 0.05  # of right images may look wrong


@dataclass(frozen=True)
class GroupFinding:
    """`wrong` of `images` of class `label` with this `field` and `value` (field "class": all of
    them) look like `instead`, another class, or unlike all real images where it is "". `p` is
    Holm's."""

    label: str
    field: str
    value: str
    images: int
    wrong: int
    instead: str
    p: float


@dataclass(frozen=True)
class _Count:
    label: int
    field: str
    value: str
    images: int
    wrong: int
    instead: int


def check_groups(
    values: np.ndarray,
    labels: np.ndarray,
    origins: Sequence[Origin | None],
    *,
    classes: Sequence[str],
    strength: float,
    strange: np.ndarray,
) -> list[GroupFinding]:
    """The groups that look wrong, the surest first.

    `values` [n,D], `labels` [n] and `origins` [n], None for a real image, are of real and
    synthetic images together; `strange` bool [n] marks those unlike all real ones.
    """
    made = np.array([origin is not None for origin in origins])
    tested: list[tuple[_Count, float]] = []
    counts = [
        _Count(label, "class", "", int(rows.sum()), int((rows & strange).sum()), -1)
        for label in range(len(classes))
        if (rows := made & (labels == label)).sum() >= _FEWEST
    ]
    tested += _tested(counts, looks=1)
    for field in FIELDS:
        names = np.array([getattr(origin, field) if origin else "" for origin in origins])
        if len(set(names[made])) >= 2:
            counts = _counted(field, names, values, labels, made, len(classes), strength)
            tested += _tested(counts, looks=len(classes) - 1)
    return _holm(tested, classes)


def _counted(
    field: str,
    names: np.ndarray,
    values: np.ndarray,
    labels: np.ndarray,
    made: np.ndarray,
    num_classes: int,
    strength: float,
) -> list[_Count]:
    """How many images of each class x value are taken for one other class by a head that has not
    seen that value."""
    known = sorted(set(names[made]))
    guesses = np.full(len(labels), -1)
    for part in range(min(_FOLDS, len(known))):
        held = made & np.isin(names, known[part::_FOLDS])
        head = fit_head(values[~held], labels[~held], num_classes=num_classes, strength=strength)
        guesses[held] = head.logits(values[held]).argmax(axis=1)
    found = []
    for name in known:
        for label in range(num_classes):
            rows = np.flatnonzero(made & (names == name) & (labels == label))
            wrong = Counter(guess for guess in guesses[rows].tolist() if guess != label)
            if len(rows) >= _FEWEST:
                instead, count = wrong.most_common(1)[0] if wrong else (-1, 0)
                found.append(_Count(label, field, name, len(rows), count, instead))
    return found


def _tested(counts: Sequence[_Count], *, looks: int) -> list[tuple[_Count, float]]:
    """Each with its p: that many by chance, if the usual share of this set looks wrong. The usual
    share is the median over the groups, at least 5%; `looks` is how many classes were looked at for
    the largest count."""
    usual = max(_CHANCE, float(np.median([each.wrong / each.images for each in counts] or [0.0])))
    return [
        (each, min(1.0, looks * float(binom.sf(each.wrong - 1, each.images, usual))))
        for each in counts
    ]


def _holm(tested: Sequence[tuple[_Count, float]], classes: Sequence[str]) -> list[GroupFinding]:
    found, worst = [], 0.0
    ordered = sorted(tested, key=lambda item: item[1])
    for rank, (count, p) in enumerate(ordered):
        worst = max(worst, min(1.0, p * (len(ordered) - rank)))
        if worst < _LEVEL and count.wrong >= _LEAST_SHARE * count.images:
            found.append(
                GroupFinding(
                    classes[count.label],
                    count.field,
                    count.value,
                    count.images,
                    count.wrong,
                    classes[count.instead] if count.instead >= 0 else "",
                    worst,
                )
            )
    return found

"""Whether a prompt as a whole shows something else: classes, and class x template, context, style
and strength.

A head learns what most images of a class show, so a context in which every "crane" is a machine
looks right to it. Here each context is judged by heads that have not seen it, and a class by a head
that has seen real images alone, and by how many of its images are unlike all of these. A group is
named, never rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from trainer.analysis.tracing import FIELDS
from trainer.quality.images import Origin
from trainer.quality.probabilities import fit_head

_FOLDS = 10
_FEWEST = 4  # images; of fewer nothing can be said
_LEVEL = 0.05  # after Holm's correction over all groups
_LEAST_SHARE = 0.2  # of a group's images
_CHANCE = 0.05  # of right images may look wrong
_TIMES = 3.0


@dataclass(frozen=True)
class GroupFinding:
    """`wrong` of `images` of class `label` with this `field` and `value` look like `instead`,
    another class. Field "class": all images of the class, which look unlike all real ones where
    `instead` is "". Label "": all classes with that value, which look like others. `p` is Holm's.
    """

    label: str
    field: str
    value: str
    images: int
    wrong: int
    instead: str
    p: float


@dataclass(frozen=True)
class _Tested:
    """A count of images that look wrong, and the share that would by chance."""

    label: int
    field: str
    value: str
    images: int
    wrong: int
    instead: int
    usual: float
    looks: int

    @property
    def p(self) -> float:
        """Of so many by chance, in the largest of `looks` counts."""
        return min(1.0, self.looks * float(binom.sf(self.wrong - 1, self.images, self.usual)))


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
    tested = _strange_classes(labels, strange, made, len(classes))
    tested += _swapped_classes(values, labels, origins, made, len(classes), strength)
    for field in FIELDS:
        names = np.array([getattr(origin, field) if origin else "" for origin in origins])
        if len(set(names[made])) >= 2:
            guesses = _unseen_guesses(names, values, labels, made, len(classes), strength)
            tested += _field(field, names, labels, guesses, made, len(classes))
    return _holm(tested, classes)


def _strange_classes(
    labels: np.ndarray, strange: np.ndarray, made: np.ndarray, num_classes: int
) -> list[_Tested]:
    """Whether more of a class's images are unlike all real ones than is usual: the median class's
    share, at least 5%."""
    images, wrong = (
        np.bincount(labels[rows], minlength=num_classes) for rows in (made, made & strange)
    )
    known = np.flatnonzero(images >= _FEWEST)
    usual = max(_CHANCE, float(np.median(wrong[known] / images[known]))) if len(known) else 1.0
    return [
        _Tested(label, "class", "", int(images[label]), int(wrong[label]), -1, usual, 1)
        for label in known.tolist()
    ]


def _swapped_classes(
    values: np.ndarray,
    labels: np.ndarray,
    origins: Sequence[Origin | None],
    made: np.ndarray,
    num_classes: int,
    strength: float,
) -> list[_Tested]:
    """Whether more of a class's images are taken for one other class, by a head that knows real
    images alone, than is usual: the median class's largest share, at least 5%."""
    styles = np.array([f"{each.style} {each.context}" if each else "" for each in origins])
    aligned = _aligned(styles, values, labels, made, num_classes)
    head = fit_head(aligned[~made], labels[~made], num_classes=num_classes, strength=strength)
    guesses = head.logits(aligned).argmax(axis=1)
    found = []
    for label in range(num_classes):
        here = guesses[made & (labels == label)]
        if len(here) >= _FEWEST:
            instead, count = Counter(here[here != label].tolist() or [-1]).most_common(1)[0]
            found.append((label, len(here), count if instead >= 0 else 0, instead))
    usual = max(_CHANCE, float(np.median([each[2] / each[1] for each in found] or [1.0])))
    looks = num_classes - 1
    return [
        _Tested(label, "class", "", images, wrong, instead, usual, looks)
        for label, images, wrong, instead in found
    ]


def _aligned(
    names: np.ndarray, values: np.ndarray, labels: np.ndarray, made: np.ndarray, num_classes: int
) -> np.ndarray:
    """The values less the mean of each name's images, that of the real ones too.

    A style moves all its images alike, and half of the mistakes on unseen styles are that (digits
    in ten styles: 18% wrong without, 10% with). A name that few classes have keeps theirs: it is
    moved by the mean of all synthetic images.
    """
    aligned = values.copy()
    aligned[~made] -= values[~made].mean(axis=0)
    aligned[made] -= values[made].mean(axis=0)
    for name in set(names[made]):
        rows = made & (names == name)
        if len(set(labels[rows])) > num_classes / 2:
            aligned[rows] = values[rows] - values[rows].mean(axis=0)
    return aligned


def _unseen_guesses(
    names: np.ndarray,
    values: np.ndarray,
    labels: np.ndarray,
    made: np.ndarray,
    num_classes: int,
    strength: float,
) -> np.ndarray:
    """The class [n] that each synthetic image is taken for by a head that has not seen its
    value."""
    known = sorted(set(names[made]))
    aligned = _aligned(names, values, labels, made, num_classes)
    guesses = np.full(len(labels), -1)
    for part in range(min(_FOLDS, len(known))):
        held = made & np.isin(names, known[part::_FOLDS])
        head = fit_head(aligned[~held], labels[~held], num_classes=num_classes, strength=strength)
        guesses[held] = head.logits(aligned[held]).argmax(axis=1)
    return guesses


def _field(
    field: str,
    names: np.ndarray,
    labels: np.ndarray,
    guesses: np.ndarray,
    made: np.ndarray,
    num_classes: int,
) -> list[_Tested]:
    """Class x value, where one class is taken for one other, and whole values, where most are taken
    for something else.

    A hard style makes mistakes in all its classes, and a hard class in all its styles. So a class x
    value must be worse than its class in the median value and than the other classes of its value;
    a whole value must have three times the median value's mistakes.
    """
    known = sorted(set(names[made]))
    images, wrong = (
        np.array(
            [np.bincount(labels[rows & (names == name)], minlength=num_classes) for name in known]
        )
        for rows in (made, made & (guesses != labels))
    )
    share = wrong / np.maximum(images, 1)
    found = []
    usual = max(_CHANCE, float(np.median(wrong.sum(axis=1) / images.sum(axis=1))))
    for row, name in enumerate(known):
        total, mistakes = int(images[row].sum()), int(wrong[row].sum())
        if total >= _FEWEST and mistakes > total / 2:
            most = min(0.9, _TIMES * usual)
            found.append(_Tested(-1, field, name, total, mistakes, -1, most, 1))
        for label in np.flatnonzero(images[row] >= _FEWEST).tolist():
            others = max(total - images[row, label], 1)
            expected = max(
                _CHANCE,
                float(np.median(share[images[:, label] > 0, label])),
                float((mistakes - wrong[row, label]) / others),
            )
            here = guesses[made & (names == name) & (labels == label)]
            instead, count = Counter(here[here != label].tolist() or [-1]).most_common(1)[0]
            looks = num_classes - 1  # classes among which the largest count was looked for
            found.append(
                _Tested(
                    *(label, field, name, int(images[row, label])),
                    *(count if instead >= 0 else 0, instead, expected, looks),
                )
            )
    return found


def _holm(tested: Sequence[_Tested], classes: Sequence[str]) -> list[GroupFinding]:
    found, worst = [], 0.0
    for rank, each in enumerate(sorted(tested, key=lambda one: one.p)):
        worst = max(worst, min(1.0, each.p * (len(tested) - rank)))
        if worst < _LEVEL and each.wrong >= _LEAST_SHARE * each.images:
            label, instead = (
                classes[number] if number >= 0 else "" for number in (each.label, each.instead)
            )
            found.append(
                GroupFinding(label, each.field, each.value, each.images, each.wrong, instead, worst)
            )
    return found

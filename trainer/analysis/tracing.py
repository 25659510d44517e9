"""Which prompts stand behind wrong answers: templates, contexts, styles and strengths that are
over-represented among the synthetic training images nearest to what a model gets wrong.

Each test image is traced to the most similar synthetic training image of the class that it was
taken for, and a value that is behind more wrong answers than behind right ones is named. Classes
differ in difficulty and may have contexts of their own, so wrong and right are compared within the
class predicted (Cochran 1954, Mantel and Haenszel 1959; one-sided, with continuity correction), and
Holm corrects for all values of all fields. Likeness is no proof of cause: look at the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

FIELDS = ("template", "context", "style", "strength")  # of an image's record
_LEVEL = 0.05
_FEWEST = 3  # wrong answers; a value behind fewer is not named


@dataclass(frozen=True)
class Traced:
    """`value` of `field` is behind `wrong` of all `wrong_total` wrong answers, where `expected`
    would be if it were as frequent as among the right ones. `p` is corrected."""

    field: str
    value: str
    wrong: int
    wrong_total: int
    expected: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        """As it is stored in mistakes.json."""
        return asdict(self)


def nearest_of_class(
    test: np.ndarray, predicted: np.ndarray, made: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """For each test image, unit vectors [n,D], the row of the most similar synthetic one [m,D] of
    the class predicted; -1 where that class has none. Classes are int [n] and [m]."""
    found = np.full(len(test), -1)
    for label in np.unique(predicted):
        rows, pool = np.flatnonzero(predicted == label), np.flatnonzero(labels == label)
        if len(pool):
            found[rows] = pool[(test[rows] @ made[pool].T).argmax(axis=1)]
    return found


def trace(
    wrong: np.ndarray,
    predicted: np.ndarray,
    nearest: np.ndarray,
    origins: Sequence[Mapping[str, str]],
) -> list[Traced]:
    """The values that are behind more wrong answers than chance, the surest first.

    `wrong` bool [n] and `predicted` int [n] are of test images, `nearest` int [n] the rows of
    `origins` that they are traced to, which have a value for each of FIELDS.
    """
    traced = nearest >= 0
    wrong, predicted, nearest = wrong[traced], predicted[traced], nearest[traced]
    tested: list[tuple[str, str, int, float, float]] = []
    for field in FIELDS:
        values = np.array([origins[row].get(field, "") for row in nearest])
        for value in sorted(set(values) - {""}) if len(set(values)) > 1 else ():
            count, expected, variance = _stratified(wrong, values == value, predicted)
            if variance > 0:
                z = (count - expected - 0.5) / variance**0.5
                tested.append((field, value, count, expected, float(norm.sf(z))))
    return _named(tested, int(wrong.sum()))


def _stratified(
    wrong: np.ndarray, has_value: np.ndarray, strata: np.ndarray
) -> tuple[int, float, float]:
    """How many wrong answers have the value, and the mean and variance of that number if it had
    nothing to do with being wrong, within each stratum."""
    expected = variance = 0.0
    for stratum in np.unique(strata):
        rows = strata == stratum
        n, bad, there = int(rows.sum()), int((rows & wrong).sum()), int((rows & has_value).sum())
        expected += bad * there / n
        if n > 1:
            variance += bad * (n - bad) * there * (n - there) / (n * n * (n - 1))
    return int((wrong & has_value).sum()), expected, variance


def _named(tested: Sequence[tuple[str, str, int, float, float]], wrong_total: int) -> list[Traced]:
    found, worst = [], 0.0
    ordered = sorted(tested, key=lambda each: each[-1])
    for rank, (field, value, count, expected, p) in enumerate(ordered):
        worst = max(worst, min(1.0, p * (len(ordered) - rank)))
        if worst < _LEVEL and count >= _FEWEST:
            found.append(Traced(field, value, count, wrong_total, expected, worst))
    return found

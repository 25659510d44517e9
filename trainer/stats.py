"""Means over seeds and differences between cells, with their uncertainty. Pure functions.

The intervals are Student's t over seeds. They cover what a seed decides (initialisation, batch order, validation split,
synthetic draw), not the choice of test images, which all seeds share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Summary:
    """A mean over n values. `sd` (sample, n-1) and the interval `low`..`high` are None for a single value."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of 0; False where there is no interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def summarise(values: Sequence[float], *, confidence: float = 0.95) -> Summary:
    """Mean, sample standard deviation and t interval of the mean.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("no values to summarise")
    array = np.asarray(values, dtype=np.float64)
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return Summary(n=1, mean=mean)
    sd = float(array.std(ddof=1))
    half = float(student_t.ppf(0.5 + confidence / 2, n - 1)) * sd / n**0.5
    return Summary(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half)


def paired_difference(
    baseline: Mapping[int, float], other: Mapping[int, float], *, confidence: float = 0.95
) -> Summary | None:
    """`other` minus `baseline` over the seeds that both have, paired by seed; None when they share none."""
    shared = sorted(set(baseline) & set(other))
    if not shared:
        return None
    return summarise([other[seed] - baseline[seed] for seed in shared], confidence=confidence)

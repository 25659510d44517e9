"""Means, intervals and paired differences against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from trainer.stats import paired_difference, summarise


def test_the_interval_is_students_t() -> None:
    values = [0.61, 0.66, 0.70]
    summary = summarise(values)
    low, high = scipy_stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert (summary.mean, summary.sd) == pytest.approx((0.656667, 0.0450925), abs=1e-6)
    assert (summary.low, summary.high) == pytest.approx((low, high))


def test_one_value_has_no_spread_and_no_interval() -> None:
    summary = summarise([0.5])
    assert (summary.n, summary.sd, summary.low, summary.excludes_zero) == (1, None, None, False)
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_differences_are_paired_by_seed_over_the_seeds_both_have() -> None:
    change = paired_difference({0: 0.50, 1: 0.60, 2: 0.70}, {2: 0.81, 0: 0.59, 1: 0.70, 9: 0.0})
    assert change is not None
    assert (change.n, change.mean) == (3, pytest.approx(0.1))
    assert change.excludes_zero
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_the_interval_covers_the_truth_in_95_of_100_simulations() -> None:
    random = np.random.RandomState(0)
    hits = 0
    for _ in range(2000):
        summary = summarise(list(random.normal(0.0, 1.0, 3)))
        hits += not summary.excludes_zero
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)

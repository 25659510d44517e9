"""Looking several times: bounds against published tables, and error rates of simulated looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from trainer.analysis.statistics.sequential import FIRST_LOOK, levels, planned_looks, sequential_p


@pytest.mark.parametrize(
    ("looks", "bounds"),
    [
        (2, (2.963, 1.969)),
        (3, (3.710, 2.511, 1.993)),
        (4, (4.333, 2.963, 2.359, 2.014)),
        (5, (4.877, 3.357, 2.680, 2.290, 2.031)),
    ],
)
def test_bounds_are_those_of_lan_and_demets_for_equal_steps(
    looks: int, bounds: tuple[float, ...]
) -> None:
    """For 5% in two sides, as published: Reboussin, DeMets, Kim and Lan 2000."""
    found = levels((0, *range(1, looks + 1)))
    assert norm.isf(np.array(found) / 2) == pytest.approx(bounds, abs=2e-3)


def test_one_look_has_the_whole_level() -> None:
    assert levels((4, 8), 0.03) == pytest.approx((0.03,), abs=1e-9)


def simulated(looks: tuple[int, ...], grids: int, images: float) -> np.ndarray:
    """p-values [grids, looks] of means of standard normal seeds, plus an error that all share."""
    random = np.random.RandomState(0)
    sums = random.standard_normal((grids, looks[-1])).cumsum(axis=1)
    shared = random.standard_normal((grids, 1)) * images
    n = np.array(looks[1:])
    means = sums[:, n - 1] / n + shared
    return 2 * norm.sf(np.abs(means) / np.sqrt(1 / n + images**2))


@pytest.mark.parametrize(("images", "low", "high"), [(0.0, 0.045, 0.055), (0.3, 0.03, 0.052)])
def test_sequential_p_values_are_valid_however_much_of_the_error_images_are(
    images: float, low: float, high: float
) -> None:
    looks = (4, 8, 13, 20)
    p = simulated(looks, 20_000, images)
    rejected = (p <= np.array(levels(looks))).any(axis=1)
    assert low <= rejected.mean() <= high
    assert (p <= 0.05).any(axis=1).mean() > 0.06  # what looking without correction does
    found = np.array([sequential_p(list(row), looks) for row in p[:4000]])
    assert np.mean(found <= 0.05) == pytest.approx(rejected[:4000].mean(), abs=0.003)
    for level in (0.01, 0.2, 0.5):
        assert np.mean(found <= level) <= level + 3 * (level * (1 - level) / 4000) ** 0.5


@pytest.mark.parametrize("last", [9, 12, 16, 20])
def test_looks_that_estimate_their_own_error_keep_to_5_percent(last: int) -> None:
    """Student's t at each look, its error from the seeds after the pilot so far."""
    looks = planned_looks(4, last)
    values = np.random.RandomState(0).standard_normal((60_000, last))
    found = np.zeros(len(values), bool)
    for n, level in zip(looks[1:], levels(looks), strict=True):
        t = values[:, :n].mean(axis=1) * n**0.5 / values[:, looks[0] : n].std(axis=1, ddof=1)
        found |= 2 * student_t.sf(np.abs(t), n - looks[0] - 1) <= level
    assert 0.047 <= found.mean() <= 0.0535


def test_a_sequential_p_value_never_rises_with_another_look() -> None:
    looks = (4, 8, 12)
    early = sequential_p([0.001], looks)
    assert sequential_p([0.001, 0.9], looks) == early
    assert sequential_p([0.9, 0.03], looks) < sequential_p([0.9], looks)
    assert sequential_p([0.001], looks) > 0.001


def test_the_pilot_is_no_look_and_looks_are_evenly_spaced() -> None:
    assert planned_looks(4, 20) == (4, 8, 14, 20)
    assert planned_looks(4, 12) == (4, 8, 12)
    assert planned_looks(4, 9) == (4, 9)  # looks at 8 and 9 would nearly be the same
    assert planned_looks(4, 5) == (4, 4 + FIRST_LOOK)

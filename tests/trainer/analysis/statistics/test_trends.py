"""Curves over the amount of synthetic images: which shape, which ratio is best, what is enough."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.analysis.cellkey import CellKey
from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.trends import Trend, corrected, trends

REAL = CellKey("cnn", "real", "both")
NOISE = 0.004


def curve(levels: dict[float, float], *, noise: float = NOISE, seeds: int = 5) -> Trend:
    """The trend of cells with these levels by ratio (0 is real only), each run with noise."""
    return noisy_curve(levels, np.random.RandomState(0), noise=noise, seeds=seeds)


def noisy_curve(
    levels: dict[float, float], random: np.random.RandomState, *, noise: float, seeds: int = 5
) -> Trend:
    scores = {
        (REAL if not ratio else CellKey("cnn", f"add:{ratio:g}", "updates", "add", ratio)): {
            "f1": CellScores(
                tuple(range(seeds)), level + random.normal(0, noise, seeds), np.zeros((seeds, 3))
            )
        }
        for ratio, level in levels.items()
    }
    (found,) = corrected({"": trends(scores, {"cnn": REAL}, {"cnn": None}, meaningful=0.01)})[""]
    return found


def simulated(levels: dict[float, float]) -> list[Trend]:
    """The trends of 200 grids with these levels."""
    random = np.random.RandomState(1)
    return [noisy_curve(levels, random, noise=0.012) for _ in range(200)]


def test_a_curve_that_rises_and_stops_levels_off() -> None:
    found = curve({0: 0.50, 1: 0.60, 2: 0.65, 4: 0.651, 8: 0.650})
    assert found.gains
    assert (found.shape, found.amounts[found.enough or 0]) == ("levels off", 2)
    assert 0 not in found.plausible
    assert {found.amounts[place] for place in found.plausible} == {2, 4, 8}


def test_a_curve_that_goes_on_rising_says_so() -> None:
    found = curve({0: 0.50, 1: 0.55, 2: 0.60, 4: 0.66})
    assert (found.shape, found.enough) == ("still rises", None)
    assert [found.amounts[place] for place in found.plausible] == [4]


def test_a_rise_whose_end_is_noise_is_only_a_rise() -> None:
    found = curve({0: 0.50, 1: 0.60, 2: 0.70, 4: 0.71}, noise=0.03, seeds=4)
    assert (found.shape, found.enough) == ("rises", None)


# With 1, 3 and 6 synthetic images for each real one as once measured; a straight line "rises".
SATURATED = {0: 0.850, 1: 0.905, 3: 0.969, 6: 0.967}


def test_a_measured_curve_that_stops_is_said_to_level_off_where_it_does() -> None:
    found = curve(SATURATED, noise=0.002)
    assert found.gains
    assert found.shape == "levels off"
    assert (found.amounts[found.rises_to], found.amounts[found.enough or 0]) == (3, 3)


def test_with_wide_intervals_it_cannot_be_told_whether_the_same_curve_levels_off() -> None:
    found = curve(SATURATED, noise=0.015, seeds=4)
    assert (found.shape, found.enough) == ("rises", None)
    assert (found.amounts[found.rises_to], found.beyond_to) == (3, 3)
    assert found.beyond is not None
    assert found.beyond.low is not None
    assert found.beyond.high is not None
    assert found.beyond.low < 0 < 0.01 < found.beyond.high  # nothing, or a point and more


def test_of_a_curve_that_is_best_at_its_largest_amount_nothing_lies_beyond() -> None:
    found = curve({0: 0.50, 1: 0.55, 2: 0.60, 4: 0.66})
    assert (found.rises_to, found.beyond, found.beyond_to) == (3, None, None)


def test_what_lies_beyond_is_the_larger_amount_that_may_add_most() -> None:
    found = curve({0: 0.50, 1: 0.70, 2: 0.66, 4: 0.70}, noise=0.006)
    assert (found.rises_to, found.beyond_to) == (1, 3)


def test_a_flat_noisy_curve_shows_nothing_and_any_ratio_may_be_best() -> None:
    found = curve({0: 0.50, 1: 0.50, 2: 0.50}, noise=0.05)
    assert (found.shape, found.enough) == ("unclear", None)
    assert len(found.plausible) == 3


def test_a_flat_curve_that_never_helped_does_not_level_off() -> None:
    found = curve({0: 0.50, 1: 0.50, 2: 0.50}, noise=0.002)
    assert found.enough == 1
    assert found.shape == "unclear"


def test_a_falling_curve_falls_and_real_only_is_best() -> None:
    found = curve({0: 0.60, 1: 0.55, 2: 0.50, 4: 0.40})
    assert (found.shape, found.best, found.plausible) == ("falls", 0, (0,))
    assert found.worse_steps == (0, 1)


def test_a_peak_in_between_is_the_best_ratio() -> None:
    found = curve({0: 0.50, 1: 0.60, 2: 0.50, 4: 0.40})
    assert found.amounts[found.best] == 1
    assert found.changes[found.best - 1].value == pytest.approx(0.1, abs=0.01)


def test_enough_needs_every_larger_amount_to_add_less() -> None:
    """From 1 to 2 nothing, then up again: 1 is not enough."""
    found = curve({0: 0.50, 1: 0.60, 2: 0.60, 4: 0.65})
    assert found.enough is None


def test_two_steps_that_add_less_each_may_add_more_together() -> None:
    """From 1 to 2 and from 2 to 4 it is 0.6 of a point, so from 1 to 4 more than one: 2 is enough,
    1 is not."""
    found = curve({0: 0.50, 1: 0.60, 2: 0.606, 4: 0.612}, noise=0.0005)
    assert found.amounts[found.enough or 0] == 2


RARELY = 20  # of 200 grids, 99.9% where the truth is 5%


def test_what_is_enough_is_rarely_said_of_a_curve_that_still_rises_by_a_point() -> None:
    """The last step adds exactly what is meaningful."""
    found = simulated({0: 0.50, 1: 0.60, 2: 0.61})
    assert sum(each.enough is not None for each in found) <= RARELY


def test_where_more_images_do_nothing_a_rise_or_fall_is_rarely_seen() -> None:
    found = simulated({0: 0.50, 1: 0.50, 2: 0.50, 3: 0.50})
    assert sum(each.shape != "unclear" for each in found) <= RARELY


def test_a_curve_that_stops_is_rarely_said_to_rise_beyond_where_it_stops() -> None:
    found = simulated({0: 0.50, 1: 0.53, 2: 0.53, 3: 0.53})
    assert sum(each.rises_to > 1 for each in found) <= RARELY
    assert sum(each.shape == "still rises" for each in found) <= RARELY
    assert sum(each.shape in ("rises", "levels off") for each in found) >= 140


def test_what_lies_beyond_is_rarely_more_than_its_interval_says() -> None:
    levels = (0.50, 0.53, 0.53, 0.54)

    def exceeded(found: Trend) -> bool:
        most = max(levels[found.rises_to + 1 :], default=0.0) - levels[found.rises_to]
        return found.beyond is not None and most > (found.beyond.high or 0.0)

    assert sum(map(exceeded, simulated(dict(enumerate(levels))))) <= RARELY

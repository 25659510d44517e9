"""How many seeds a change needs, against worked cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import t as student_t
from statsmodels.stats.power import TTestPower

from trainer.analysis.statistics.power import MOST_SEEDS, plan_looks, plan_seeds
from trainer.analysis.statistics.sequential import levels
from trainer.analysis.statistics.stats import Estimate


def pilot(se: float, images: float, *, n: int = 3) -> Estimate:
    """A change over n seeds of which `images` of the standard error comes from test images."""
    return Estimate(n, 0.0, se, n - 1.0, images=images**2)


def test_without_noise_of_images_it_is_the_sample_size_of_a_t_test() -> None:
    """Differences between seeds of 2 points, a change of 2 points: statsmodels says 9.94."""
    wanted = TTestPower().solve_power(effect_size=1.0, power=0.8, alpha=0.05)
    found = plan_seeds(pilot(0.02 / 3**0.5, 0.0), 0.02)
    assert found is not None
    assert found.seeds == pytest.approx(wanted, abs=1.1)
    assert found.test_images == 1
    assert found.smallest < 0.0001


def test_more_headlines_need_more_seeds() -> None:
    one, two = (plan_seeds(pilot(0.01, 0.002), 0.02, tests=tests) for tests in (1, 2))
    assert one is not None
    assert two is not None
    assert (one.seeds or 0) < (two.seeds or 0)


def test_where_test_images_are_the_limit_it_says_how_many_more() -> None:
    """2 points from images alone: endless seeds find 2.8 standard errors, 5.6 points."""
    found = plan_seeds(pilot(0.02, 0.02, n=40), 0.02)
    assert found is not None
    assert found.seeds is None
    assert found.smallest == pytest.approx(2.8016 * 0.02, rel=1e-3)
    assert found.test_images == pytest.approx(2.8016**2, rel=1e-3)


def test_a_change_that_needs_more_than_the_most_seeds_is_not_promised() -> None:
    found = plan_seeds(pilot(0.2, 0.0), 0.01)
    assert found is not None
    assert found.seeds is None
    assert MOST_SEEDS == 100


def test_one_seed_says_nothing_about_variances() -> None:
    assert plan_seeds(Estimate(1, 0.1), 0.02) is None


def test_seeds_are_planned_for_the_worst_headline_and_the_looks() -> None:
    """A t-test at 5% would need 10 seeds; four of the pilot say nothing about the error."""
    calm, wild = pilot(0.01 / 4**0.5, 0.0, n=4), pilot(0.02 / 4**0.5, 0.0, n=4)
    plan = plan_looks([calm, wild], 0.02, tests=1, most_seeds=20)
    assert plan is not None
    assert plan.looks[0] == 4
    assert 10 <= plan.looks[-1] <= 14
    assert (plan.limit, plan.test_images) == ("", 1.0)
    assert plan.detects <= 0.02
    alone = plan_looks([calm], 0.02, tests=1, most_seeds=20)
    assert alone is not None
    assert alone.looks == (4, 8)
    more = plan_looks([wild], 0.02, tests=3, most_seeds=20)
    assert more is not None
    assert more.looks[-1] > plan.looks[-1]


def test_the_change_that_a_pilot_shows_does_not_matter_for_the_plan() -> None:
    calm = pilot(0.01, 0.004, n=4)
    moved = replace(calm, value=0.3, low=0.27, high=0.33, p=0.0001)
    assert plan_looks([calm], 0.02, tests=1, most_seeds=20) == plan_looks(
        [moved], 0.02, tests=1, most_seeds=20
    )


def test_a_plan_says_what_limits_it() -> None:
    """1 point from images alone: endless seeds find 2.8 points."""
    images = plan_looks([pilot(0.0105, 0.01, n=4)], 0.02, tests=1, most_seeds=20)
    assert images is not None
    assert images.limit == "images"
    assert images.detects <= 1.1 * 2.8016 * 0.01
    assert images.test_images == pytest.approx((images.detects / 0.02) ** 2)
    seeds = plan_looks([pilot(0.04, 0.001, n=4)], 0.02, tests=1, most_seeds=12)
    assert seeds is not None
    assert (seeds.limit, seeds.looks[-1]) == ("seeds", 12)
    assert seeds.detects > 0.02


def test_one_seed_plans_nothing() -> None:
    assert plan_looks([Estimate(1, 0.1)], 0.02, tests=1, most_seeds=20) is None


def test_what_a_plan_detects_by_hand() -> None:
    """Of 20 seeds the 16 after the pilot tell the variance, with 15 degrees of freedom."""
    plan = plan_looks([pilot(0.04 / 4**0.5, 0.0, n=4)], 0.001, tests=1, most_seeds=20)
    assert plan is not None
    level = levels(plan.looks)[-1]
    steps = student_t.isf(level / 2, 15) + student_t.ppf(0.8, 15)
    assert plan.detects == pytest.approx(steps * 0.04 / 20**0.5)

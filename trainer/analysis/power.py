"""How many seeds, or test images, a change of a given size needs. Pure functions.

From a finished grid, even one of three seeds: the variance of a change has a part that more seeds
shrink and one that only more test images do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainer.analysis.stats import Estimate, detectable

MOST_SEEDS = 100


@dataclass(frozen=True)
class SeedPlan:
    """What finds a change in 80% of such grids.

    `seeds` is None if not even MOST_SEEDS do. `smallest` is the change that endless seeds on these
    test images would find; `test_images` how many times as many test images are needed at least
    for that to be small enough, 1 if they suffice.
    """

    seeds: int | None
    test_images: float
    smallest: float


def plan_seeds(change: Estimate, detect: float, *, tests: int = 1) -> SeedPlan | None:
    """The fewest seeds with which a true change of `detect`, a share, is found in 80% of grids,
    where `tests` headlines are tested together; None if one seed says nothing about variances.

    The degrees of freedom grow with the seeds as one less than their number does.
    """
    if change.se is None or change.df is None or change.n < 2:
        return None
    endless = _at(change, 1_000_000, tests)
    enough = (n for n in range(2, MOST_SEEDS + 1) if _at(change, n, tests) <= detect)
    seeds = next(enough, None)
    return SeedPlan(seeds, max(1.0, (endless / detect) ** 2), endless)


def _at(change: Estimate, seeds: int, tests: int) -> float:
    """The change that is detectable with so many seeds."""
    assert change.se is not None
    assert change.df is not None
    from_images = min(change.images or 0.0, change.se**2)
    from_seeds = (change.se**2 - from_images) * change.n / seeds
    df = change.df * (seeds - 1) / (change.n - 1)
    se = (from_images + from_seeds) ** 0.5
    least = detectable(replace(change, n=seeds, se=se, df=min(df, 1e6)), tests=tests)
    assert least is not None
    return least

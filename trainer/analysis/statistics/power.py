"""How many seeds, or test images, a change of a given size needs. Pure functions.

From a finished grid, even one of three seeds: the variance of a change has a part that more seeds
shrink and one that only more test images do. With n seeds for the pilot's n0,

    se(n)^2 = images + (se(n0)^2 - images) n0 / n    df(n) = df(n0) (n - 1) / (n0 - 1)

and what is found is `detectable` (trainer.analysis.statistics.stats). That the degrees of freedom
grow like this is our choice. Changes and errors are shares, not points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.analysis.statistics.sequential import ALPHA, FIRST_LOOK, levels, planned_looks
from trainer.analysis.statistics.stats import Estimate, detectable

MOST_SEEDS = 100
# Where test images are the limit, seeds are enough if they find this many times what endless seeds
# find. Our choice.
_NEAR_LIMIT = 1.1


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
    """
    if change.se is None or change.df is None or change.n < 2:
        return None
    endless = _at(change, 1_000_000, tests)
    enough = (n for n in range(2, MOST_SEEDS + 1) if _at(change, n, tests) <= detect)
    seeds = next(enough, None)
    return SeedPlan(seeds, max(1.0, (endless / detect) ** 2), endless)


@dataclass(frozen=True)
class LookPlan:
    """At which numbers of seeds a grid looks at its headlines.

    `looks` are the seeds of the pilot, then those at which changes are tested.

    `detects` is the change, a share, that all of them find in 80% of such grids. `limit` says what
    keeps it from being what was asked for: "" for nothing, "images" of the test set, or "seeds",
    of which no more are allowed. `test_images` is about how many times as many test images are
    needed then, else 1.
    """

    looks: tuple[int, ...]
    detects: float
    limit: str = ""
    test_images: float = 1.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LookPlan:
        """The plan in a parsed JSON object; KeyError, TypeError or ValueError if it is none."""
        return cls(**{**values, "looks": tuple(map(int, values["looks"]))})


def plan_looks(
    pilot: Sequence[Estimate], detect: float, *, tests: int, most_seeds: int
) -> LookPlan | None:
    """The fewest seeds, at most `most_seeds`, with which a true change of `detect` is found in 80%
    of grids in the worst of the pilot's headline changes, looks included; None if the pilot says
    nothing about variances.

    Only the variances of the pilot are used, not its changes, which would raise false alarms.
    """
    known = [each for each in pilot if each.se is not None and each.df is not None and each.n > 1]
    if not known:
        return None
    n = max(each.n for each in known)
    endless = max(_at(each, 1_000_000, tests) for each in known)
    wanted = max(detect, _NEAR_LIMIT * endless)

    def found(seeds: int) -> float:
        level = levels(planned_looks(n, seeds), ALPHA / max(1, tests))[-1]
        return max(_at(each, seeds, 1, alpha=level, later=seeds - n) for each in known)

    least, most = n + FIRST_LOOK, max(n + FIRST_LOOK, most_seeds)
    seeds = next((each for each in range(least, most) if found(each) <= wanted), most)
    limit = "" if found(seeds) <= detect else "images" if wanted > detect else "seeds"
    times = (found(seeds) / detect) ** 2 if limit == "images" else 1.0
    return LookPlan(planned_looks(n, seeds), found(seeds), limit, times)


def _at(
    change: Estimate, seeds: int, tests: int, *, alpha: float = ALPHA, later: int | None = None
) -> float:
    """The change that is detectable with so many seeds, of which `later` (default: all) tell the
    variance."""
    assert change.se is not None
    assert change.df is not None
    from_images = min(change.images or 0.0, change.se**2)
    from_seeds = (change.se**2 - from_images) * change.n / seeds
    df = change.df * ((seeds if later is None else later) - 1) / (change.n - 1)
    se = (from_images + from_seeds) ** 0.5
    planned = replace(change, n=seeds, se=se, df=min(df, 1e6))
    least = detectable(planned, tests=tests, alpha=alpha)
    assert least is not None
    return least

"""Intervals, tests, and their correction for multiple comparisons. Pure functions.

Values, errors and bounds are shares in 0..1 and changes of them in -1..1, not points; those of a
slope are per unit of its amounts.

There are two sources of variation: the test images, which all runs share, and what a seed
determines (initialisation, batch order, validation split, synthetic draw). A difference between
cells, averaged over S seeds and N images, has the variance of a crossed layout (Owen 2007, "The
pigeonhole bootstrap"):

    images/N + seeds/S + (images x seeds)/(N S)

The effects of images (trainer.analysis.scores) give the first and the last term. The term of the
seeds is the sample variance over seeds, moderated by that of all cells of the model
(trainer.analysis.statistics.spread). The interval is Student's t with d / share degrees of freedom:
d are those of the seeds' term, `share` is its part of the variance. Satterthwaite's d / share**2
trust a share that is itself estimated: with d = 2 there are up to 7.8% false alarms instead of 5%.
Ours are our choice; with them no kind of simulated grid is found above 5%. The last term, which the
images tell well, is a part of that of the seeds and its least value; a fifth of it counts as known.
For results on simulated grids see benchmarks/evidence/false_alarms.py. `contrast` combines all this
for any sum of cells: one cell, a difference, a slope over ratios.

Where each seed splits the data anew there are no common test images, and splits overlap. There the
variance over S splits is not divided by S but multiplied by 1/S + n_test/n_train (Nadeau and Bengio
2003, "Inference for the generalization error"), an approximation for errors that depend little on
single training images.

All of this is about new seeds and new test images: the real training images are given, and what
other real training images would have shown is not part of any interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.spread import SeedSpread, moderated

Key = TypeVar("Key")
UNBOUNDED = (-np.inf, np.inf)
SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)  # what a share, and a change of one, can be
_NORMAL = 1e6  # degrees of freedom at which Student's t is the normal distribution
_KNOWN = 0.2  # of the noise of runs on images. Our choice: more would raise false alarms.


@dataclass(frozen=True)
class Estimate:
    """A value over n seeds. With one seed there is no error, interval or p-value: they are None.

    `df` are the degrees of freedom of Student's t; `p` is two-sided, for a true value of 0.
    `images` is the part of the squared error that more seeds would not shrink, None if it is not
    known.
    """

    n: int
    value: float
    se: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    images: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Votes:
    """Test images that the majority of seeds classifies correctly in only one of two cells."""

    won: int
    lost: int


# --- estimates over seeds and images ---


def summarise(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Mean over seeds with Student's t interval, which ignores the choice of test images.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("no values to summarise")
    if array.size == 1:
        return Estimate(1, float(array[0]))
    return _t_estimate(
        array.size, float(array.mean()), array.var(ddof=1) / array.size, array.size - 1, confidence
    )


def contrast(
    terms: Sequence[tuple[float, CellScores]],
    *,
    spread: SeedSpread | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = UNBOUNDED,
    pilot: int = 0,
) -> Estimate | None:
    """A weighted sum of cells over the seeds that all of them have; None if they share none.

    With the weighted sums v[s] of values and e[s, i] of the effects of images, S seeds, and means
    over seeds, the terms of the variance (module docstring) are, without bias,

        both = (mean(sum(e[s, i]**2)) - sum(mean(e[s, i])**2)) / (S - 1)
        images = sum(mean(e[s, i])**2) - both
        seeds + both = var(v) / S

    No term is below 0. var(v) is moderated by `spread` if given. Seeds below `pilot` count in the
    value, but not in that variance. The interval is never narrower than
    test images alone make it, nor than one test image does, and never wider than `bounds`.
    """
    shared = sorted(set.intersection(*(set(cell.seeds) for _, cell in terms)))
    if not shared:
        return None
    rows = [(factor, cell, [cell.seeds.index(seed) for seed in shared]) for factor, cell in terms]
    values = sum(factor * cell.values[chosen] for factor, cell, chosen in rows)
    effects = sum(factor * cell.effects[chosen] for factor, cell, chosen in rows)
    assert isinstance(values, np.ndarray)
    assert isinstance(effects, np.ndarray)
    n, value = len(shared), float(values.mean())
    if n == 1:
        return Estimate(1, value)
    squared = sum(factor**2 for factor, _ in terms)
    later = values[np.array(shared) >= pilot]
    if len(later) < 2:
        return Estimate(n, value)
    seeds, df = _seed_variance(later, squared, spread)
    seeds *= len(later) / n
    least = squared / 2 * max(cell.one_image for _, cell in terms) ** 2
    overlap = max((cell.overlap or 0.0 for _, cell in terms), default=0.0)
    if overlap:
        shared_part = seeds * n * overlap
        found = _t_estimate(n, value, max(seeds + shared_part, least), df, confidence, bounds)
        return replace(found, images=shared_part)
    images = float((effects.mean(axis=0) ** 2).sum())
    each_alone = float((effects**2).sum(axis=1).mean())
    # Images x seeds; it is part of the two others as well.
    both = max(0.0, each_alone - images) / (n - 1)
    images_only = max(0.0, images - both)
    seeds = max(seeds, both)
    variance = max(seeds + images_only, least)
    free = min(df * variance / (seeds - _KNOWN * both), _NORMAL) if seeds > 0 else _NORMAL
    found = _t_estimate(n, value, variance, free, confidence, bounds)
    return replace(found, images=images_only)


def slope_terms(
    amounts: Sequence[float], cells: Sequence[CellScores]
) -> list[tuple[float, CellScores]]:
    """The least-squares slope over `amounts`, as terms of a `contrast`: change of the metric per
    unit."""
    centred = np.asarray(amounts, dtype=np.float64) - np.mean(amounts)
    factors = centred / (centred**2).sum()
    return [(float(factor), cell) for factor, cell in zip(factors, cells, strict=True)]


def _seed_variance(
    values: np.ndarray, squared_factors: float, spread: SeedSpread | None
) -> tuple[float, float]:
    """Variance of the mean over seeds, and its degrees of freedom."""
    n = len(values)
    own = float(values.var(ddof=1))
    if spread is None:
        return own / n, n - 1
    variance, df = moderated(own, n - 1, spread.variance * squared_factors, spread)
    return float(variance) / n, df


def _t_estimate(
    n: int,
    value: float,
    variance: float,
    df: float,
    confidence: float,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Estimate:
    se = float(variance) ** 0.5
    half = float(stdtrit(df, 0.5 + confidence / 2)) * se
    p = float(2 * stdtr(df, -abs(value) / se)) if se > 0 else float(value == 0)
    low, high = max(bounds[0], value - half), min(bounds[1], value + half)
    return Estimate(n, value, se, float(df), low, high, p)


# --- tests ---


def equivalence_p(estimate: Estimate, margin: float) -> float | None:
    """The p-value for "the true value is at least `margin` away from 0": the larger of two
    one-sided tests (Schuirmann 1987, "A comparison of the two one-sided tests procedure and the
    power approach"), which is that of the nearer margin. None with one seed."""
    if estimate.se is None or estimate.df is None:
        return None
    if not estimate.se:
        return float(abs(estimate.value) >= margin)
    nearest = (margin - abs(estimate.value)) / estimate.se
    return float(stdtr(estimate.df, -nearest))


def below_p(estimate: Estimate, margin: float) -> float | None:
    """The one-sided p-value for "the true value is at least `margin`". None with one seed."""
    if estimate.se is None or estimate.df is None:
        return None
    if not estimate.se:
        return float(estimate.value >= margin)
    return float(stdtr(estimate.df, (estimate.value - margin) / estimate.se))


def detectable(
    estimate: Estimate, *, tests: int = 1, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The true change that is found in `power` of such grids, where `tests` changes are tested
    together (Bonferroni, which is what Holm's method does first). None with one seed.

        (t[1 - alpha / (2 tests)] + t[power]) * se    with quantiles of Student's t

    This stands for the quantile of the noncentral t distribution; a test compares its power.
    """
    if estimate.se is None or estimate.df is None:
        return None
    needed = stdtrit(estimate.df, 1 - alpha / 2 / max(1, tests))
    return float((needed + stdtrit(estimate.df, power)) * estimate.se)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """p-values corrected for their number: at 0.05, at most 5% of families have any false alarm
    (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


# --- counts ---


def majority_votes(baseline: np.ndarray, other: np.ndarray) -> Votes:
    """Images won and lost between two cells' correct answers: bool [S, N] each, one row per seed.

    An image counts as correct for a cell if more than half of its seeds get it right. There is no
    p-value: McNemar's test of these counts ignores what other seeds would have done, and is wrong
    in up to half of all grids without any effect.
    """
    before, after = (2 * answers.sum(axis=0) > len(answers) for answers in (baseline, other))
    return Votes(int((after & ~before).sum()), int((before & ~after).sum()))


def class_change(
    baseline: np.ndarray,
    other: np.ndarray,
    *,
    confidence: float = 0.95,
    overlap: float | None = None,
) -> Estimate:
    """Change in one class's share of correct answers: bool [S, n] each, one row per seed.

    With few images the plain interval is far too narrow (width 0 if no image changed). Following
    Agresti and Min (2005, "Simple improved confidence intervals for comparing matched
    proportions"), half an image is added to each cell of the 2x2 table. To that variance comes that
    of the seeds, less what chance makes of n images; degrees of freedom are Satterthwaite's. That
    combination is our choice. With `overlap`, as CellScores have it, rows are of
    different images and only their means count.
    """
    differences = other.astype(np.float64) - baseline.astype(np.float64)
    seeds, n = differences.shape
    by_image = differences.mean(axis=0)
    value = float(by_image.mean())
    if seeds == 1:
        return Estimate(1, value)
    if overlap is not None:
        spread = float(differences.mean(axis=1).var(ddof=1)) * (1 / seeds + overlap)
        least = 1 / (n + 2) ** 2  # as below, where no image changes
        return _t_estimate(seeds, value, max(spread, least), seeds - 1, confidence, CHANGE)
    centre = by_image.sum() / (n + 2)
    images = (((by_image**2).sum() + 1) / (n + 2) - centre**2) / (n + 2)
    own = float(differences.mean(axis=1).var(ddof=1)) / seeds
    inner = (
        (differences - by_image).var(axis=1, ddof=1).sum() / (seeds - 1) / n / seeds
        if n > 1
        else 0.0
    )
    luck = max(0.0, own - float(inner))
    df = (luck + images) ** 2 / (luck**2 / (seeds - 1) + images**2 / (n + 1))
    half = float(stdtrit(df, 0.5 + confidence / 2)) * (luck + images) ** 0.5
    return Estimate(
        seeds,
        value,
        (luck + images) ** 0.5,
        float(df),
        max(-1.0, centre - half),
        min(1.0, centre + half),
    )

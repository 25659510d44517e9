"""Intervals, tests, and their correction for multiple comparisons. Pure functions.

There are two sources of variation: the test images, which all runs share, and what a seed
determines (initialisation, batch order, validation split, synthetic draw). A difference between
cells, averaged over S seeds and N images, has the variance of a crossed layout (Owen 2007, "The
pigeonhole bootstrap"):

    images/N + seeds/S + (images x seeds)/(N S)

`bootstrap_weights` resamples images, the same ones for every run, which gives the first and the
last term. Seeds are not resampled: the percentile interval of a crossed bootstrap is too narrow
where seeds matter most and too wide where they do not, and three seeds have too few distinct
resamples for a p-value that survives a correction. Their term is the sample variance over seeds,
but at least the variance pooled over all cells of the model, with its degrees of freedom; the
interval is Student's t with Satterthwaite's degrees of freedom. For results on simulated grids,
compared with the crossed bootstrap, see benchmarks/false_alarms.py. `contrast` combines all this
for any sum of cells: one cell, a difference, a slope over ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom
from scipy.stats import t as student_t

Key = TypeVar("Key")
RESAMPLES = 2000
_NORMAL = 1e6  # degrees of freedom at which Student's t is the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value over n seeds. With one seed there is no error, interval or p-value: they are None.

    `df` are Satterthwaite's degrees of freedom; `p` is two-sided, for a true value of 0.
    """

    n: int
    value: float
    se: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class CellScores:
    """One metric of one cell: `values` [S] by seed, `replicates` [S, B] the same over B resamples
    of the test images."""

    seeds: tuple[int, ...]
    values: np.ndarray
    replicates: np.ndarray


@dataclass(frozen=True)
class SeedSpread:
    """Variance of a run around the means of its cell and seed, pooled over a model's cells, with
    `df` degrees of freedom."""

    variance: float
    df: int


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two arms gets right, and the exact two-sided p-value of that
    split."""

    won: int
    lost: int
    p: float


# --- resampling test images ---


def bootstrap_weights(true: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image counts: float32 [N, 1 + resamples]; column 0 is the sample itself, all
    ones.

    Images are drawn within their class, as test sets are. From a class of n, n-1 are drawn and
    weighted by n/(n-1) (Rao and Wu 1988); otherwise a class of three images would look a third less
    variable than it is. The same arguments give the same weights.
    """
    random = np.random.RandomState(seed)
    weights = np.ones((len(true), 1 + resamples), dtype=np.float32)
    for label in np.unique(true):
        (rows,) = np.nonzero(true == label)
        n = len(rows)
        if n > 1:
            drawn = random.multinomial(n - 1, np.full(n, 1 / n), size=resamples)
            weights[rows, 1:] = drawn.T * (n / (n - 1))
    return weights


def weighted_scores(
    true: np.ndarray, predicted: np.ndarray, weights: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Accuracy, and macro and weighted precision, recall and F1, under each column of `weights`.

    `true` and `predicted` are class indices [N], `weights` is [N, B]; each score is float64 [B],
    named as in trainer.analysis.metrics. A division by zero counts as 0.
    """
    actual = _class_sums(true, weights, num_classes)
    guessed = _class_sums(predicted, weights, num_classes)
    right = _class_sums(true, weights * (true == predicted)[:, None], num_classes)
    share = actual / actual.sum(axis=0)
    by_class = {
        "precision": _divide(right, guessed),
        "recall": _divide(right, actual),
        "f1": _divide(2 * right, actual + guessed),
    }
    found = {"accuracy": right.sum(axis=0) / actual.sum(axis=0)}
    found |= {name: values.mean(axis=0) for name, values in by_class.items()}
    found |= {f"weighted_{name}": (values * share).sum(axis=0) for name, values in by_class.items()}
    # The same number, identical to the last bit.
    return found | {"weighted_recall": found["accuracy"]}


def _class_sums(labels: np.ndarray, weights: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights summed by class: [num_classes, B]."""
    n = len(labels)
    members = csr_matrix(
        (np.ones(n, dtype=np.float32), (labels, np.arange(n))), shape=(num_classes, n)
    )
    summed: np.ndarray = np.asarray(members @ weights, dtype=np.float64)
    return summed


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return shares


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
) -> Estimate | None:
    """A weighted sum of cells over the seeds that all of them have; None if they share none.

    Seeds contribute the larger of the contrast's own variance over seeds and that expected from
    `spread`. The interval is never narrower than resampling images alone makes it.
    """
    shared = sorted(set.intersection(*(set(cell.seeds) for _, cell in terms)))
    if not shared:
        return None
    rows = [(factor, cell, [cell.seeds.index(seed) for seed in shared]) for factor, cell in terms]
    values = sum(factor * cell.values[chosen] for factor, cell, chosen in rows)
    replicates = sum(factor * cell.replicates[chosen] for factor, cell, chosen in rows)
    assert isinstance(values, np.ndarray)
    assert isinstance(replicates, np.ndarray)
    n, value = len(shared), float(values.mean())
    if n == 1:
        return Estimate(1, value)
    seeds, df = _seed_variance(values, sum(factor**2 for factor, _ in terms), spread)
    images = float(replicates.mean(axis=0).var(ddof=1))
    each_alone = float(replicates.var(axis=1, ddof=1).mean())
    # Images x seeds; it is part of the two others as well.
    both = max(0.0, each_alone - images) / (n - 1)
    images_only = max(0.0, images - both)
    seeds = max(seeds, both)
    variance = seeds + images_only
    free = min(variance**2 / (seeds**2 / df), _NORMAL) if seeds > 0 else _NORMAL
    return _t_estimate(n, value, variance, free, confidence)


def seed_spread(cells: Sequence[CellScores]) -> SeedSpread | None:
    """Residual variance of runs around cell and seed means (two-way layout); None without degrees
    of freedom."""
    values = np.concatenate([cell.values for cell in cells]) if cells else np.empty(0)
    names = sorted({seed for cell in cells for seed in cell.seeds})
    design = np.zeros((len(values), len(cells) + len(names)))
    places = [
        (number, names.index(seed)) for number, cell in enumerate(cells) for seed in cell.seeds
    ]
    for row, (cell, seed) in enumerate(places):
        design[row, [cell, len(cells) + seed]] = 1
    df = len(values) - int(np.linalg.matrix_rank(design)) if len(values) else 0
    if df < 1:
        return None
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return SeedSpread(float(((values - fitted) ** 2).sum()) / df, df)


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
    if spread is None or spread.df <= n - 1:
        return own / n, n - 1
    return max(own, spread.variance * squared_factors) / n, spread.df


def _t_estimate(n: int, value: float, variance: float, df: float, confidence: float) -> Estimate:
    se = float(variance) ** 0.5
    half = float(student_t.ppf(0.5 + confidence / 2, df)) * se
    p = float(2 * student_t.sf(abs(value) / se, df)) if se > 0 else float(value == 0)
    return Estimate(n, value, se, float(df), value - half, value + half, p)


# --- counts ---


def mcnemar(baseline: np.ndarray, other: np.ndarray) -> McNemar:
    """Exact McNemar test of two arms' correct answers: bool [S, N] each, one row per seed.

    The seeds' tables share their images, so they can be neither added up nor treated as
    independent. Instead there is one table: an image counts as correct for an arm if more than half
    of its seeds get it right. The p-value is about these trained models on new images. It ignores
    what other seeds would have done, so no verdict is based on it.
    """
    before, after = (2 * answers.sum(axis=0) > len(answers) for answers in (baseline, other))
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return McNemar(won, lost, min(1.0, 2 * float(binom.cdf(min(won, lost), won + lost, 0.5))))


def class_change(baseline: np.ndarray, other: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """Change in one class's share of correct answers: bool [S, n] each, one row per seed.

    With few images the plain interval is far too narrow (width 0 if no image changed). Following
    Agresti and Min (2005), half an image is added to each cell of the 2x2 table, then seeds and
    images are combined as in `contrast`.
    """
    differences = other.astype(np.float64) - baseline.astype(np.float64)
    seeds, n = differences.shape
    by_image = differences.mean(axis=0)
    value = float(by_image.mean())
    if seeds == 1:
        return Estimate(1, value)
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
    half = float(student_t.ppf(0.5 + confidence / 2, df)) * (luck + images) ** 0.5
    return Estimate(
        seeds,
        value,
        (luck + images) ** 0.5,
        float(df),
        max(-1.0, centre - half),
        min(1.0, centre + half),
    )


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """p-values corrected for their number: at 0.05, at most 5% of families have any false alarm
    (Holm 1979)."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}

"""How much runs differ between seeds: pooled over the cells of a model, as far as they are alike.

A cell's own variance over three or five seeds is a poor estimate; one pooled over all cells is a
good one where they scatter alike, and too small for a cell that scatters more. Empirical Bayes
stands between (Smyth 2004, "Linear models and empirical Bayes methods"): variances of cells vary
like a scaled inverse chi-squared with d0 degrees of freedom, and a cell's variance s^2 on d degrees
of freedom becomes

    (d0 s0^2 + d s^2) / (d0 + d)    on d0 + d degrees of freedom

Smyth takes s0^2 for known. Ours is the pooled variance of the other cells, on D degrees of freedom,
so it counts as fewer, 1 / (1/d0 + 1/D).

A few cells say little about d0, so it is not estimated by one number. There are two candidates:
cells scatter alike (d0 = inf), or very unevenly (d0 = 1), three times as likely beforehand. Each
is weighed by how well it explains the cells of all models (level of each model integrated out). The
result is the mean of 1/d0. Candidates and their weights are our choice, made on simulated grids:
benchmarks/evidence/false_alarms.py compares this rule with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import betaln, gammaln

from trainer.analysis.scores import CellScores

Key = TypeVar("Key")
_PRIOR_DF = np.array([1.0, np.inf])
_PRIOR_WEIGHTS = np.array([3.0, 1.0]) / 4
_LEVELS = np.linspace(-2.0, 1.2, 25)  # of ln(level / mean variance)


@dataclass(frozen=True)
class SeedSpread:
    """Variance of a run around the means of its cell and seed (the residuals of a two-way layout),
    pooled over a model's cells, with `df` degrees of freedom; in squared units of the metric.

    `unevenness` is the mean of 1/d0: 0 if the cells scatter exactly alike, at most 1.
    """

    variance: float
    df: int
    unevenness: float = 0.0


def seed_spreads(models: Mapping[Key, Sequence[CellScores]]) -> dict[Key, SeedSpread | None]:
    """One metric's spread for each model, from its cells; None without degrees of freedom."""
    fits = {key: _residuals(cells) for key, cells in models.items()}
    known = [fit.by_cell for fit in fits.values() if len(fit.by_cell) > 2]
    uneven = unevenness(known)
    return {
        key: SeedSpread(fit.squares / fit.df, fit.df, uneven) if fit.df > 0 else None
        for key, fit in fits.items()
    }


def moderated(
    own: np.ndarray | float, df: int, pooled: np.ndarray | float, spread: SeedSpread
) -> tuple[np.ndarray, float]:
    """The variance of a contrast and its degrees of freedom, from its `own` variance with `df`
    degrees of freedom and that expected from its model, `pooled`, which contains it and is freed
    of it first. For the equation see the module's docstring."""
    if spread.df <= df:
        return np.asarray(own), df
    others = spread.df - df
    rest = np.maximum(0.0, (np.asarray(pooled) * spread.df - np.asarray(own) * df) / others)
    prior = 1 / (spread.unevenness + 1 / others)
    return (prior * rest + df * np.asarray(own)) / (prior + df), prior + df


def unevenness(models: Sequence[Sequence[tuple[float, int]]]) -> float:
    """The mean of 1/d0 given each model's variances and degrees of freedom by cell; in 0..1.

    Without any model it is what is assumed beforehand.
    """
    log_likelihood = np.zeros(len(_PRIOR_DF))
    for cells in models:
        variances, df = (np.array(column, dtype=np.float64) for column in zip(*cells, strict=True))
        if variances.any():
            log_likelihood += _log_evidence(variances, df)
    weights = _PRIOR_WEIGHTS * np.exp(log_likelihood - log_likelihood.max())
    return float((weights / _PRIOR_DF).sum() / weights.sum())


def _log_evidence(variances: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Log likelihood [candidates] of variances / level ~ F(df, d0), the level integrated out (its
    logarithm even over _LEVELS)."""
    mean = variances.mean()
    ratios = np.maximum(variances / mean, 1e-6) / np.exp(_LEVELS)[:, None]  # [levels, cells]
    found = np.array([_log_f(ratios, df, d0).sum(axis=-1) for d0 in _PRIOR_DF])
    found -= (_LEVELS * len(variances))[None]
    top = found.max(axis=1)
    evidence: np.ndarray = top + np.log(np.exp(found - top[:, None]).mean(axis=1))
    return evidence


def _log_f(x: np.ndarray, df: np.ndarray, d0: float) -> np.ndarray:
    """ln of the density of F(df, d0) at x; for d0 = inf that of chi-squared(df) / df."""
    half = df / 2
    if np.isinf(d0):
        log_density = half * np.log(half * x) - half * x - gammaln(half) - np.log(x)
    else:
        log_density = (
            half * np.log(df * x / d0)
            - (half + d0 / 2) * np.log1p(df * x / d0)
            - np.log(x)
            - betaln(half, d0 / 2)
        )
    return np.asarray(log_density)


@dataclass(frozen=True)
class _Fit:
    """Residuals of a two-way layout: their squares, degrees of freedom, and the variance of each
    cell of n seeds, which counts as if it were on n - 1 degrees of freedom (an approximation)."""

    squares: float
    df: int
    by_cell: list[tuple[float, int]]


def _residuals(cells: Sequence[CellScores]) -> _Fit:
    values = np.concatenate([cell.values for cell in cells]) if cells else np.empty(0)
    names = sorted({seed for cell in cells for seed in cell.seeds})
    design = np.zeros((len(values), len(cells) + len(names)))
    places = [
        (number, names.index(seed)) for number, cell in enumerate(cells) for seed in cell.seeds
    ]
    for row, (cell, seed) in enumerate(places):
        design[row, [cell, len(cells) + seed]] = 1
    if not len(values):
        return _Fit(0.0, 0, [])
    hat = design @ np.linalg.pinv(design)
    squares = (values - hat @ values) ** 2
    free = 1 - np.diagonal(hat)
    df = round(float(free.sum()))
    owner = np.array([number for number, _ in places])
    by_cell = [
        (float(squares[owner == number].sum() / free[owner == number].sum()), n - 1)
        for number, n in enumerate(len(cell.seeds) for cell in cells)
        if n > 1 and free[owner == number].sum() > 1e-9
    ]
    return _Fit(float(squares.sum()), df, by_cell)

"""How synthetic images lie among real ones: density, coverage, Frechet distance, shares.

Density and coverage follow Naeem et al. 2020. Each real row has a ball that reaches to its fifth
nearest real row. Density is how many balls hold a synthetic row, on average, over five: about 1
where both are alike, more where synthetic rows crowd the middle. Coverage is the share of balls
that hold any: near 1 where both are alike. Both change with the counts, so they are only compared
at equal counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

NEAREST = 5
FRECHET_FROM = 2000
_CHUNK = 1000


@dataclass(frozen=True)
class Share:
    """A share of `of` things, with its interval (Wilson 1927)."""

    value: float
    low: float
    high: float
    of: int


def wilson(hits: int, of: int, *, confidence: float = 0.95) -> Share:
    """The interval of a share; [0, 1] of nothing."""
    if not of:
        return Share(float("nan"), 0.0, 1.0, 0)
    z = float(ndtri(0.5 + confidence / 2))
    share = hits / of
    centre, scale = share + z**2 / (2 * of), 1 + z**2 / of
    half = z * float(share * (1 - share) / of + z**2 / (4 * of**2)) ** 0.5
    return Share(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale), of)


def density_and_coverage(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Density and coverage of the rows `made` [M,D] among `real` [N,D], N above 5."""
    reach = np.partition(_squares(real, real), NEAREST, axis=1)[:, NEAREST]  # [0] is the row itself
    inside, covered = 0, np.zeros(len(real), dtype=bool)
    for start in range(0, len(made), _CHUNK):
        hits = _squares(real, made[start : start + _CHUNK]) <= reach[:, None]
        inside += int(hits.sum())
        covered |= hits.any(axis=1)
    return inside / (NEAREST * len(made)), float(covered.mean())


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of the rows [n,D] and [m,D], float64 [n,m]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.maximum(found, 0.0)


def frechet(real: np.ndarray, made: np.ndarray) -> float:
    """The Frechet distance of two Gaussians fitted to [n,D] and [m,D], which is FID if the features
    are those of its Inception network (Heusel et al. 2017)."""
    one, two = real.astype(np.float64), made.astype(np.float64)
    first, second = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    gap = ((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum()
    return float(gap + np.trace(first) + np.trace(second) - 2 * shared)


def why_no_frechet(real: int, made: int) -> str:
    """Why the Frechet distance of so many images says nothing; "" if it does."""
    if min(real, made) >= FRECHET_FROM:
        return ""
    return (
        f"needs at least {FRECHET_FROM} images on each side, and there are {real} and {made}: with "
        "fewer it mostly measures their number"
    )

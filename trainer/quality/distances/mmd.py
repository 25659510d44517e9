"""Maximum mean discrepancy: how far apart two sets of features are, with an interval that holds.

The squared distance between the means of two distributions in a kernel's feature space, in its
unbiased form (Gretton et al. 2012), which is about 0, and may be negative, where both are the same.

    polynomial    (a.b/D + 1)^3, the kernel of KID (Binkowski et al. 2018)
    rbf           exp(-|a-b|^2 / (2 * 10^2)), the kernel of CMMD for a CLIP's features of length 1
                  (Jayasumana et al. 2024), whose own estimate keeps the pairs of an image with
                  itself; at small numbers that is mostly bias, so here they are left out

Everything is a sum of means over groups of rows (a set's images of one class), `sum Q[g,h] m[g,h]`:
one class, all classes with equal weight, or the difference between two sources, in which the real
images' own term cancels. An estimate that weighs classes is unbiased for any counts per class;
pooled rows are not.

The interval comes from the variance of such a sum, not from a bootstrap: rows drawn with
replacement pair images with themselves, and where the distance is 0 they give about three times its
variance even without these pairs. Splitting the kernel into means, effects of rows and the rest
(Hoeffding's decomposition) gives

    4 sum var(effect of a row)/n  +  2 sum Q[g,g]^2 rest[g,g]/(n(n-1))
                                  +  4 sum Q[g,h]^2 rest[g,h]/(n m)

where the first term is 0 at distance 0 and the others remain. It is about new images of the same
kind: of the same prompts, where images are synthetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

SMALLEST_GROUP = 4  # rows; with fewer the variance cannot be estimated
_CLIP_SIGMA = 10.0
_CHUNK = 1000

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """KID's kernel of [n,D] and [m,D], float64 [n,m]."""
    found: np.ndarray = ((a @ b.T).astype(np.float64) / a.shape[1] + 1.0) ** 3
    return found


def rbf(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """CMMD's kernel of [n,D] and [m,D], float64 [n,m]."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    apart = np.maximum(squares.astype(np.float64) - 2.0 * (a @ b.T), 0.0)
    found: np.ndarray = np.exp(-apart / (2.0 * _CLIP_SIGMA**2))
    return found


@dataclass(frozen=True)
class Distance:
    """An estimate of a squared distance, or of a difference between two, and its interval."""

    value: float
    se: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> Distance:
        """The same in other units."""
        return Distance(*(factor * each for each in (self.value, self.se, self.low, self.high)))


@dataclass(frozen=True)
class Blocks:
    """A kernel among N rows in G groups. No row is paired with itself.

    `of` [N] is each row's group, `sizes` [G] how many each has; `rows` [N,G] the mean kernel of a
    row with a group, `means` [G,G] its mean over a group, `rest` [G,G] the variance of what means
    and rows leave over.
    """

    of: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray
    means: np.ndarray
    rest: np.ndarray


def kernel_blocks(features: np.ndarray, of: np.ndarray, kernel: Kernel = polynomial) -> Blocks:
    """The kernel among the rows `features` [N,D] of groups `of` [N], 0 to G-1, each of at least
    four rows. Takes memory for 1,000 N + N G values.

    Raises:
        ValueError: a group has fewer than four rows.
    """
    sizes = np.bincount(of).astype(np.float64)
    if sizes.min() < SMALLEST_GROUP:
        raise ValueError(
            f"a group has {sizes.min():.0f} rows; at least {SMALLEST_GROUP} are needed"
        )
    member = np.eye(len(sizes))[of]
    sums, squares = np.empty_like(member), np.zeros((len(sizes), len(sizes)))
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        values = kernel(features[part], features)
        values[np.arange(len(values)), np.arange(start, start + len(values))] = 0.0
        sums[part] = values @ member
        squares += member[part].T @ (values**2 @ member)
    partners = sizes[None, :] - np.eye(len(sizes))  # of a row of g, in h
    rows = sums / partners[of]
    means = (member.T @ sums) / (sizes[:, None] * partners)
    return Blocks(of, sizes, rows, means, _rest(member, sizes, rows, means, squares))


def _rest(
    member: np.ndarray, sizes: np.ndarray, rows: np.ndarray, means: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """Variance of the doubly centred kernel, unbiased; within a group by U-centring (Szekely and
    Rizzo 2014)."""
    n, by_row = sizes, member.T @ rows**2  # [g,h]: over the rows of g, of their means with h
    between = squares - n[None, :] * by_row - (n[None, :] * by_row).T + np.outer(n, n) * means**2
    found = between / np.outer(n - 1, n - 1)
    own = np.diag(by_row) * (n - 1) ** 2
    total = np.diag(means) * n * (n - 1)
    within = np.diag(squares) - 2 * own / (n - 2) + total**2 / ((n - 1) * (n - 2))
    found[np.diag_indices(len(n))] = within / (n * (n - 3))
    return np.maximum(found, 0.0)


def squared_distance(
    blocks: Blocks, plus: np.ndarray, minus: np.ndarray, *, confidence: float = 0.95
) -> Distance:
    """The squared distance between two sets, given by the numbers of their groups, all groups of a
    set with the same weight."""
    value, first, second, df = _moments(blocks, _weights(len(blocks.sizes), plus, minus))
    z = float(stdtrit(df, 0.5 + confidence / 2))
    se = (4 * first + second) ** 0.5
    # The first term grows with the distance, so the upper end is where a distance as large would
    # still have given this value; `value + z se` is too low once in five at small distances.
    growth = first / max(value, second**0.5) if second > 0 else 0.0
    from_ = max(value, 0.0)
    spread = (second + 4 * growth * from_ + 4 * z**2 * growth**2) ** 0.5
    return Distance(value, se, value - z * se, from_ + 2 * z**2 * growth + z * spread)


def difference(
    blocks: Blocks,
    plus: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    confidence: float = 0.95,
) -> Distance:
    """How much further from the set `plus` the set `first` is than `second`."""
    groups = len(blocks.sizes)
    weights = _weights(groups, plus, first) - _weights(groups, plus, second)
    value, linear, rest, df = _moments(blocks, weights)
    se = (4 * linear + rest) ** 0.5
    half = float(stdtrit(df, 0.5 + confidence / 2)) * se
    return Distance(value, se, value - half, value + half)


def _weights(groups: int, plus: np.ndarray, minus: np.ndarray) -> np.ndarray:
    weights = np.zeros(groups)
    weights[plus], weights[minus] = 1 / len(plus), -1 / len(minus)
    return np.outer(weights, weights)


def _moments(blocks: Blocks, weights: np.ndarray) -> tuple[float, float, float, float]:
    """`sum weights[g,h] means[g,h]` for symmetric `weights` [G,G]; a quarter of the first term of
    its variance, the other terms, and degrees of freedom (rows less groups: our choice)."""
    n, used = blocks.sizes, np.abs(weights).sum(axis=1) > 0
    scatter = weights**2 * blocks.rest
    own = np.diag(scatter)
    # A group's own mean over n-1 others shrinks a row's effect by (n-2)/(n-1).
    factors = weights.copy()
    factors[np.diag_indices(len(n))] *= (n - 1) / (n - 2)
    effects = (factors[blocks.of] * blocks.rows).sum(axis=1)
    noise = (scatter / n[None, :]).sum(axis=1) - own / n + own / (n - 2)
    seen = sum(effects[blocks.of == group].var(ddof=1) / n[group] for group in np.flatnonzero(used))
    noise_part = float((noise / n).sum())
    # Less than half of the noise cannot be told from none.
    first = max(float(seen) - noise_part, noise_part / 2)
    pairs = scatter / np.outer(n, n)
    second = 2 * (pairs.sum() - np.trace(pairs)) + (2 * own / (n * (n - 1))).sum()
    value = float((weights * blocks.means).sum())
    return value, first, float(second), float(n[used].sum() - used.sum())

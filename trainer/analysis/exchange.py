"""What synthetic images are worth in real ones, read off a learning curve. No torch, no files.

The curve goes through real only and the arms fewer: and more: of the same budget, straight between
neighbours over the logarithm of the number of real images, and on along its last piece for one
doubling at most. Its interval holds every number of real images whose value on the curve does not
differ from the arm's at the 5% level (an inverted test, as Fieller's), with the errors of the arm
and of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.spread import SeedSpread
from trainer.analysis.statistics.stats import Estimate, contrast
from trainer.arms import BUDGETS, SHARED_BUDGET

_CURVE = ("fewer", "more")
_POINTS = 60  # of the curve at which an arm is tested
_BEYOND = 2.0  # how far the curve goes on above its last point


@dataclass(frozen=True)
class Exchange:
    """What an arm is worth, in real training images per class more (or fewer) than real only has.

    `low` and `high` bound the 95% interval; None where it goes on past that end of the curve.
    `value` is None if the arm lies off the curve. `measured_to`
    is the number of real images per class up to which the curve was measured, `base` that of real
    only.
    """

    base: float
    measured_to: float
    value: float | None
    low: float | None
    high: float | None


def exchange(
    key: CellKey,
    scores: Mapping[CellKey, Mapping[str, CellScores]],
    real_images: Mapping[CellKey, float],
    spread: SeedSpread | None,
) -> Exchange | None:
    """The worth of the arm `key`; None without a learning curve under its budget (that of equal
    updates for an arm of both), or with one seed.

    `real_images` has the real training images per class of each cell, additional ones included.
    """
    budget = key.budget if key.budget != SHARED_BUDGET else BUDGETS[0]
    points = {
        real_images[each]: each
        for each in sorted(scores, key=lambda each: each.is_baseline)  # it wins over its equals
        if each.model == key.model
        and (each.is_baseline or (each.regime in _CURVE and each.budget == budget))
        and each in real_images
    }
    base = next((number for number, each in points.items() if each.is_baseline), None)
    if base is None or len(points) < 2:
        return None
    numbers = np.array(sorted(points))
    cells = [scores[points[number]][HEADLINE_METRIC] for number in numbers.tolist()]
    arm = scores[key][HEADLINE_METRIC]
    tried = np.geomspace(numbers[0], numbers[-1] * _BEYOND, _POINTS)
    gaps = [_gap(arm, cells, numbers, number, spread) for number in tried]
    bounds = [(gap.value, gap.low, gap.high) for gap in gaps if gap is not None]
    values, low, high = (np.array(column, dtype=np.float64) for column in zip(*bounds, strict=True))
    if np.isnan(low).any():  # one seed
        return None
    ends = (_crossings(tried, low), _crossings(tried, high))
    nearest = min(_crossings(tried, values), key=lambda n: abs(n - base), default=None)
    return Exchange(
        base,
        float(numbers[-1]),
        None if nearest is None else nearest - base,
        (ends[0][0] if ends[0] else tried[-1]) - base if low[0] > 0 else None,
        (ends[1][-1] if ends[1] else tried[0]) - base if high[-1] < 0 else None,
    )


def _gap(
    arm: CellScores,
    cells: Sequence[CellScores],
    numbers: np.ndarray,
    number: float,
    spread: SeedSpread | None,
) -> Estimate | None:
    """The arm minus the curve at `number` real images per class."""
    right = int(np.clip(np.searchsorted(numbers, number), 1, len(numbers) - 1))
    near, far = np.log(numbers[right - 1]), np.log(numbers[right])
    share = float((np.log(number) - near) / (far - near))
    terms = [(1.0, arm), (share - 1, cells[right - 1]), (-share, cells[right])]
    return contrast([(factor, cell) for factor, cell in terms if factor], spread=spread)


def _crossings(tried: np.ndarray, gaps: np.ndarray) -> list[float]:
    """Where `gaps` fall through 0, rising numbers of images."""
    places = np.nonzero((gaps[:-1] >= 0) & (gaps[1:] < 0))[0]
    shares = gaps[places] / (gaps[places] - gaps[places + 1])
    found = tried[places] + shares * (tried[places + 1] - tried[places])
    return [float(number) for number in found]

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
from trainer.analysis.spread import SeedSpread
from trainer.analysis.stats import Estimate, contrast

_CURVE = ("fewer", "more")
_POINTS = 120  # of the curve at which an arm is tested
_BEYOND = 2.0  # how far the curve goes on above its last point


@dataclass(frozen=True)
class Exchange:
    """What an arm is worth, in real training images per class more (or fewer) than real only has.

    `low` and `high` bound the 95% interval; None where it goes on past the end of the curve.
    `value` is None if the arm lies off the curve, or the curve is too flat to say. `measured_to`
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
    """The worth of the arm `key`; None without a learning curve under its budget, or with one seed.

    `real_images` has the real training images per class of each cell, additional ones included.
    """
    points = {
        real_images[each]: each
        for each in sorted(scores, key=lambda each: each.is_baseline)  # it wins over its equals
        if each.model == key.model
        and (each.is_baseline or (each.regime in _CURVE and each.budget == key.budget))
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
    if any(gap is None or gap.low is None for gap in gaps):
        return None
    found = [gap for gap in gaps if gap is not None]
    inside = [place for place, gap in enumerate(found) if not gap.excludes_zero]
    value = _crossing(tried, [gap.value for gap in found], base)
    if not inside:
        return Exchange(base, float(numbers[-1]), None, None, None)
    low = None if inside[0] == 0 else float(tried[inside[0]] - base)
    high = None if inside[-1] == len(tried) - 1 else float(tried[inside[-1]] - base)
    return Exchange(base, float(numbers[-1]), value, low, high)


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


def _crossing(tried: np.ndarray, gaps: Sequence[float], base: float) -> float | None:
    """Where the curve passes the arm's value, nearest to real only; relative to it."""
    values = np.array(gaps)
    places = np.nonzero((values[:-1] >= 0) & (values[1:] < 0))[0]
    if not len(places):
        return None
    shares = values[places] / (values[places] - values[places + 1])
    found = tried[places] + shares * (tried[places + 1] - tried[places])
    return float(min(found - base, key=abs))

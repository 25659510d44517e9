"""From predictions to verdicts: cells scored and compared with real only, trends tested.

No torch, no files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from trainer.analysis.stats import (
    RESAMPLES,
    CellScores,
    Estimate,
    McNemar,
    SeedSpread,
    bootstrap_weights,
    class_change,
    contrast,
    holm,
    mcnemar,
    seed_spread,
    slope_terms,
    weighted_scores,
)
from trainer.arms import BASELINE, SHARED_BUDGET

HEADLINE_METRIC = "f1"
K = TypeVar("K")


@dataclass(frozen=True, order=True)
class CellKey:
    """A cell of a grid; `ratio` is the arm's amount. The real-only cell of a model has the budget
    "both"."""

    model: str
    arm: str = BASELINE
    budget: str = SHARED_BUDGET
    regime: str = BASELINE
    ratio: float = 0.0
    source: str = ""

    @property
    def is_baseline(self) -> bool:
        """Whether this is the cell that the others of its model are compared with."""
        return self.arm == BASELINE


@dataclass(frozen=True)
class Comparison:
    """A cell compared with real only, paired by seed and test image.

    `changes` has one estimate per metric, uncorrected. `p_holm` is the headline metric's p-value,
    corrected for all comparisons of the grid; None with one seed. `classes` has the change in each
    class's share of correct answers.
    """

    changes: Mapping[str, Estimate]
    p_holm: float | None
    mcnemar: McNemar
    classes: tuple[Estimate, ...]

    @property
    def verdict(self) -> str:
        """ "better", "worse", "unclear", or "untested" if there is only one seed."""
        if self.p_holm is None:
            return "untested"
        return (
            "unclear"
            if self.p_holm > 0.05
            else "better"
            if self.changes[HEADLINE_METRIC].value > 0
            else "worse"
        )


@dataclass(frozen=True)
class Trend:
    """The headline metric over increasing amounts of added synthetic images.

    `slope` is the change per additional synthetic image for each real one; `steps` the change from
    each amount to the next larger. p-values of slopes, and of steps, are corrected over the grid,
    each as a separate family.
    """

    model: str
    budget: str
    source: str
    amounts: tuple[float, ...]
    slope: Estimate
    p_slope: float | None
    steps: tuple[Estimate, ...]
    p_steps: tuple[float | None, ...]

    @property
    def falls(self) -> bool:
        """Whether more images are significantly worse over the whole range."""
        return self.p_slope is not None and self.p_slope <= 0.05 and self.slope.value < 0

    @property
    def worse_steps(self) -> tuple[int, ...]:
        """The steps up that made it significantly worse, by index."""
        found = zip(self.steps, self.p_steps, strict=True)
        return tuple(
            i for i, (step, p) in enumerate(found) if p is not None and p <= 0.05 and step.value < 0
        )


@dataclass(frozen=True)
class Verdicts:
    """Everything that a grid's predictions show. `cells` has one estimate per metric for each
    cell."""

    cells: Mapping[CellKey, Mapping[str, Estimate]]
    comparisons: Mapping[CellKey, Comparison]
    trends: tuple[Trend, ...]


def judge(
    true: np.ndarray,
    predicted: Mapping[CellKey, Mapping[int, np.ndarray]],
    num_classes: int,
    *,
    resamples: int = RESAMPLES,
) -> Verdicts:
    """Scores and compares a whole grid from true class indices int [N] and, for each cell and seed,
    the predicted ones [N]."""
    weights = bootstrap_weights(true, resamples=resamples)
    scores = {
        key: _score(true, runs, weights, num_classes) for key, runs in predicted.items() if runs
    }
    by_model: dict[str, list[CellKey]] = defaultdict(list)
    for key in scores:
        by_model[key.model].append(key)
    spreads = {
        (model, metric): seed_spread([scores[key][metric] for key in keys])
        for model, keys in by_model.items()
        for metric in scores[keys[0]]
    }
    baselines = {key.model: key for key in scores if key.is_baseline}
    changes = {
        key: {
            metric: contrast(
                [(1.0, cell), (-1.0, scores[baselines[key.model]][metric])],
                spread=spreads[key.model, metric],
            )
            for metric, cell in metrics.items()
        }
        for key, metrics in scores.items()
        if key.model in baselines and not key.is_baseline
    }
    paired = {
        key: {metric: change for metric, change in found.items() if change is not None}
        for key, found in changes.items()
        if found[HEADLINE_METRIC] is not None
    }
    corrected = _corrected({key: found[HEADLINE_METRIC] for key, found in paired.items()})
    comparisons = {
        key: Comparison(
            found,
            corrected[key],
            *_by_image(true, predicted[baselines[key.model]], predicted[key], num_classes),
        )
        for key, found in paired.items()
    }
    cells = {
        key: {
            metric: estimate
            for metric, cell in metrics.items()
            if (estimate := contrast([(1.0, cell)]))
        }
        for key, metrics in scores.items()
    }
    return Verdicts(cells, comparisons, _trends(scores, baselines, spreads))


def _score(
    true: np.ndarray, runs: Mapping[int, np.ndarray], weights: np.ndarray, num_classes: int
) -> dict[str, CellScores]:
    seeds = tuple(sorted(runs))
    found = [weighted_scores(true, runs[seed], weights, num_classes) for seed in seeds]
    stacked = {metric: np.stack([each[metric] for each in found]) for metric in found[0]}
    return {
        metric: CellScores(seeds, values[:, 0], values[:, 1:]) for metric, values in stacked.items()
    }


def _by_image(
    true: np.ndarray,
    baseline: Mapping[int, np.ndarray],
    other: Mapping[int, np.ndarray],
    num_classes: int,
) -> tuple[McNemar, tuple[Estimate, ...]]:
    shared = sorted(set(baseline) & set(other))
    before, after = (
        np.stack([runs[seed] == true for seed in shared]) for runs in (baseline, other)
    )
    classes = tuple(
        class_change(before[:, true == label], after[:, true == label])
        for label in range(num_classes)
    )
    return mcnemar(before, after), classes


def _trends(
    scores: Mapping[CellKey, Mapping[str, CellScores]],
    baselines: Mapping[str, CellKey],
    spreads: Mapping[tuple[str, str], SeedSpread | None],
) -> tuple[Trend, ...]:
    rows: dict[tuple[str, str, str], list[CellKey]] = defaultdict(list)
    for key in scores:
        if key.regime == "add" and key.model in baselines:
            rows[key.model, key.budget, key.source].append(key)
    slopes: dict[tuple[str, str, str], Estimate] = {}
    steps: dict[tuple[tuple[str, str, str], int], Estimate] = {}
    amounts: dict[tuple[str, str, str], tuple[float, ...]] = {}
    for row, keys in rows.items():
        keys = [baselines[row[0]], *sorted(keys, key=lambda key: key.ratio)]
        cells, spread = (
            [scores[key][HEADLINE_METRIC] for key in keys],
            spreads[row[0], HEADLINE_METRIC],
        )
        slope = contrast(slope_terms([key.ratio for key in keys], cells), spread=spread)
        if len(keys) < 3 or slope is None:  # with one amount the trend equals the comparison
            continue
        slopes[row], amounts[row] = slope, tuple(key.ratio for key in keys)
        for number, (low, high) in enumerate(pairwise(cells[1:])):
            step = contrast([(1.0, high), (-1.0, low)], spread=spread)
            assert step is not None  # every cell has the slope's seeds
            steps[row, number] = step
    p_slopes, p_steps = _corrected(slopes), _corrected(steps)
    return tuple(
        Trend(
            *row,
            amounts[row],
            slope,
            p_slopes[row],
            tuple(steps[row, number] for number in range(len(amounts[row]) - 2)),
            tuple(p_steps[row, number] for number in range(len(amounts[row]) - 2)),
        )
        for row, slope in slopes.items()
    )


def _corrected(estimates: Mapping[K, Estimate]) -> dict[K, float | None]:
    tested = {key: estimate.p for key, estimate in estimates.items() if estimate.p is not None}
    return dict.fromkeys(estimates) | holm(tested)

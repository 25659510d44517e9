"""From predictions to verdicts: cells scored and compared with real only, trends tested.

No torch, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey, headline_keys
from trainer.analysis.changes import (
    Changes,
    Pair,
    Scores,
    Spreads,
    baselines_of,
    changes_of,
    spreads_of,
)
from trainer.analysis.exchange import Exchange, exchange
from trainer.analysis.scores import CellScores, confusion_counts, metric_effects, one_image
from trainer.analysis.statistics.stats import (
    SHARE,
    Estimate,
    Votes,
    class_change,
    contrast,
    equivalence_p,
    holm,
    majority_votes,
)
from trainer.analysis.statistics.trends import Trend, corrected, trends

MEANINGFUL = 0.01  # the smallest change of interest, a share: one point
K = TypeVar("K")
# From a test set, the baseline's key and a cell's: its votes, and its change in each class.
ByImage = Callable[[str, CellKey, CellKey], tuple[Votes, tuple[Estimate, ...]]]


@dataclass(frozen=True)
class Comparison:
    """A cell compared with real only, paired by seed and test image.

    `changes` has one estimate per metric, uncorrected. `p_holm` is the headline metric's p-value
    for a change of 0, `p_same` that for a change of `meaningful` or more either way; both are
    corrected for all comparisons of the cell's family, and None with one seed. `is_headline` says
    which family: the cells that the plan named before training, or all other comparisons. `classes`
    has the change in each class's share of correct answers.
    """

    changes: Mapping[str, Estimate]
    p_holm: float | None
    p_same: float | None
    is_headline: bool
    family: int
    votes: Votes
    classes: tuple[Estimate, ...]
    meaningful: float = MEANINGFUL

    @property
    def verdict(self) -> str:
        """ "better", "worse", "same" (no change as large as `meaningful`), "unclear", or "untested"
        if there is only one seed."""
        return verdict_of(self.changes[HEADLINE_METRIC], self.p_holm, self.p_same)

    @property
    def is_suggestive(self) -> bool:
        """Whether the interval excludes 0, but not after correction."""
        return self.verdict == "unclear" and self.changes[HEADLINE_METRIC].excludes_zero

    @property
    def is_small(self) -> bool:
        """Whether the change, if any, is smaller than `meaningful` either way."""
        return self.p_same is not None and self.p_same <= 0.05


@dataclass(frozen=True)
class Judged:
    """One test set: true class indices int [N] and, for each cell and seed, the predicted ones."""

    true: np.ndarray
    predicted: Mapping[CellKey, Mapping[int, np.ndarray]]


@dataclass(frozen=True)
class Duel:
    """A cell compared with another arm than real only; `p_holm` is corrected together with all
    exploratory comparisons."""

    key: CellKey
    rival: CellKey
    change: Estimate
    p_holm: float | None

    @property
    def between_sources(self) -> bool:
        """Whether both have synthetic images, but from different sources."""
        return bool(self.rival.source) and self.rival.source != self.key.source

    @property
    def verdict(self) -> str:
        """As that of a Comparison, but never "same"."""
        return verdict_of(self.change, self.p_holm, None)


@dataclass(frozen=True)
class Verdicts:
    """Everything that a grid's predictions show. `cells` has one estimate per metric for each
    cell, `run_sd` the standard deviation of a run between seeds, by model and metric."""

    cells: Mapping[CellKey, Mapping[str, Estimate]]
    comparisons: Mapping[CellKey, Comparison]
    trends: tuple[Trend, ...]
    duels: tuple[Duel, ...] = ()
    exchanges: Mapping[CellKey, Exchange] = field(default_factory=dict)
    run_sd: Mapping[tuple[str, str], float] = field(default_factory=dict)


def verdict_of(change: Estimate, p_holm: float | None, p_same: float | None) -> str:
    """What the corrected p-values say: see Comparison."""
    if p_holm is None:
        return "untested"
    if p_holm <= 0.05:
        return "better" if change.value > 0 else "worse"
    return "same" if p_same is not None and p_same <= 0.05 else "unclear"


def judge(
    true: np.ndarray,
    predicted: Mapping[CellKey, Mapping[int, np.ndarray]],
    num_classes: int,
    *,
    planned: Sequence[CellKey] = (),
    meaningful: float = MEANINGFUL,
    real_images: Mapping[CellKey, float] | None = None,
    looks: Sequence[int] = (),
    overlap: float | None = None,
) -> Verdicts:
    """`judge_all` of a grid with one test set: true class indices int [N] and, for each cell and
    seed, the predicted ones [N]."""
    return judge_all(
        {"": Judged(true, predicted)},
        num_classes,
        planned=planned,
        meaningful=meaningful,
        real_images=real_images,
        looks=looks,
        overlap=overlap,
    )[""]


def judge_all(
    tests: Mapping[str, Judged],
    num_classes: int,
    *,
    planned: Sequence[CellKey] = (),
    meaningful: float = MEANINGFUL,
    real_images: Mapping[CellKey, float] | None = None,
    looks: Sequence[int] = (),
    overlap: float | None = None,
) -> dict[str, Verdicts]:
    """Scores and compares a whole grid on each test set; p-values are corrected for all of them.

    `planned` are all cells of the grid, finished or not, which fix the headline comparisons (by
    default those predicted); `real_images` the real training images per class of each cell, for the
    exchange rate; `looks` the numbers of seeds at which a planned grid is looked at, of which those
    up to its own number of seeds have been; `overlap` the number of test images for each training
    image where seeds are tested on different images of the same classes.
    """
    scores = {
        test: {
            key: score(judged.true, runs, num_classes, metrics=None, overlap=overlap)
            for key, runs in judged.predicted.items()
            if runs
        }
        for test, judged in tests.items()
    }
    return compare_all(
        scores,
        planned=planned or tuple(dict.fromkeys(key for each in scores.values() for key in each)),
        meaningful=meaningful,
        real_images=real_images or {},
        looks=looks,
        by_image=lambda test, before, after: _by_image(
            tests[test], before, after, num_classes, overlap
        ),
    )


def score(
    true: np.ndarray,
    runs: Mapping[int, np.ndarray],
    num_classes: int,
    *,
    metrics: Sequence[str] | None,
    overlap: float | None = None,
) -> dict[str, CellScores]:
    """A cell's runs by seed, as CellScores of these metrics (None: of all)."""
    seeds = tuple(sorted(runs))
    predicted = np.stack([runs[seed] for seed in seeds])
    found = metric_effects(confusion_counts(true, predicted, num_classes))
    least, rows = one_image(true, num_classes), np.arange(len(seeds))[:, None]
    return {
        metric: CellScores(
            seeds, values, table.astype(np.float32)[rows, true, predicted], least, overlap
        )
        for metric, (values, table) in found.items()
        if metrics is None or metric in metrics
    }


def compare(
    scores: Scores,
    *,
    planned: Sequence[CellKey],
    meaningful: float = MEANINGFUL,
    real_images: Mapping[CellKey, float] | None = None,
    by_image: ByImage | None = None,
    looks: Sequence[int] = (),
) -> Verdicts:
    """`compare_all` of a grid with one test set."""
    return compare_all(
        {"": scores},
        planned=planned,
        meaningful=meaningful,
        real_images=real_images,
        by_image=by_image,
        looks=looks,
    )[""]


def compare_all(
    scores: Mapping[str, Scores],
    *,
    planned: Sequence[CellKey],
    meaningful: float = MEANINGFUL,
    real_images: Mapping[CellKey, float] | None = None,
    by_image: ByImage | None = None,
    looks: Sequence[int] = (),
) -> dict[str, Verdicts]:
    """The verdicts of a grid that is scored on several test sets. Without `by_image` they have no
    votes and no classes.

    With `looks`, p-values and intervals of changes hold however early the grid stopped.
    """
    headlines = {
        key
        for model in dict.fromkeys(key.model for key in planned)
        for key in headline_keys([each for each in planned if each.model == model])
    }
    spreads = {test: spreads_of(each) for test, each in scores.items()}
    baselines = {test: baselines_of(each) for test, each in scores.items()}
    changes = {
        test: changes_of(each, headlines, spreads[test], looks) for test, each in scores.items()
    }
    judged, p_duels = _corrected(changes, headlines, meaningful)
    curves = corrected(
        {
            test: trends(
                each,
                baselines[test],
                {model: spreads[test][model, HEADLINE_METRIC] for model in baselines[test]},
                meaningful=meaningful,
            )
            for test, each in scores.items()
        }
    )
    return {
        test: Verdicts(
            _cells(each),
            {
                key: Comparison(
                    change,
                    *judged[test, key],
                    *(by_image or _nothing)(test, baselines[test][key.model], key),
                    meaningful,
                )
                for key, change in changes[test].cells.items()
            },
            curves[test],
            tuple(
                Duel(*pair, change, p_duels[test, pair])
                for pair, change in changes[test].duels.items()
            ),
            _exchanges(each, headlines, real_images or {}, spreads[test]),
            {
                key: spread.variance**0.5
                for key, spread in spreads[test].items()
                if spread is not None
            },
        )
        for test, each in scores.items()
    }


def _exchanges(
    scores: Scores,
    headlines: set[CellKey],
    real_images: Mapping[CellKey, float],
    spreads: Spreads,
) -> dict[CellKey, Exchange]:
    found = {
        key: exchange(key, scores, real_images, spreads[key.model, HEADLINE_METRIC])
        for key in scores
        if key in headlines
    }
    return {key: rate for key, rate in found.items() if rate}


def _cells(scores: Scores) -> dict[CellKey, dict[str, Estimate]]:
    return {
        key: {
            metric: estimate
            for metric, cell in metrics.items()
            if (estimate := contrast([(1.0, cell)], bounds=SHARE))
        }
        for key, metrics in scores.items()
    }


def _corrected(
    changes: Mapping[str, Changes], headlines: set[CellKey], meaningful: float
) -> tuple[
    dict[tuple[str, CellKey], tuple[float | None, float | None, bool, int]],
    dict[tuple[str, Pair], float | None],
]:
    """Each comparison's p-value for no change and for a meaningful one, family and its size; and
    the p-value of each duel. Headlines are one family; all others, and the duels, another. Each
    spans all test sets."""
    cells = {
        (test, key): each[HEADLINE_METRIC]
        for test, found in changes.items()
        for key, each in found.cells.items()
    }
    duels = {
        (test, pair): each for test, found in changes.items() for pair, each in found.duels.items()
    }
    first = {place: each for place, each in cells.items() if place[1] in headlines}
    rest = {place: each for place, each in cells.items() if place[1] not in headlines}
    p_first = _holm({place: each.p for place, each in first.items()})
    p_rest = _holm(
        {("cell", place): each.p for place, each in rest.items()}
        | {("duel", place): each.p for place, each in duels.items()}
    )
    same = {
        place: p
        for family in (first, rest)
        for place, p in _holm(
            {place: equivalence_p(each, meaningful) for place, each in family.items()}
        ).items()
    }
    found = {
        place: (p_first[place], same[place], True, len(first))
        if place in first
        else (p_rest["cell", place], same[place], False, len(p_rest))
        for place in cells
    }
    return found, {place: p_rest["duel", place] for place in duels}


def _holm(p_values: Mapping[K, float | None]) -> dict[K, float | None]:
    tested = {key: p for key, p in p_values.items() if p is not None}
    return dict.fromkeys(p_values) | holm(tested)


def _by_image(
    judged: Judged, baseline: CellKey, other: CellKey, num_classes: int, overlap: float | None
) -> tuple[Votes, tuple[Estimate, ...]]:
    true, runs = judged.true, judged.predicted
    shared = sorted(set(runs[baseline]) & set(runs[other]))
    before, after = (
        np.stack([runs[key][seed] == true for seed in shared]) for key in (baseline, other)
    )
    classes = tuple(
        class_change(before[:, true == label], after[:, true == label], overlap=overlap)
        for label in range(num_classes)
    )
    votes = majority_votes(before, after) if overlap is None else Votes(0, 0)
    return votes, classes


def _nothing(test: str, before: CellKey, after: CellKey) -> tuple[Votes, tuple[Estimate, ...]]:
    return Votes(0, 0), ()

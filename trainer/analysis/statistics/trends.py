"""The headline metric over increasing amounts of added synthetic images: does more help, and up to
where. No torch, no files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.spread import SeedSpread
from trainer.analysis.statistics.stats import CHANGE, Estimate, below_p, contrast, holm, slope_terms

Row = tuple[str, str, str]  # model, budget, source


@dataclass(frozen=True)
class Trend:
    """A model's curve over `amounts`, which begin with 0, real only.

    `slope` is the change per additional synthetic image for each real one; `steps` the change from
    each amount above 0 to the next larger; `changes` that from real only to each amount. p-values
    of slopes, and of steps, are corrected over the grid, each as a separate family.

    `best` is the place of the amount with the highest value. `plausible` are the places of the
    amounts that may be best: those not significantly worse than it (one-sided, Bonferroni over the
    others). The truly best amount is among them with 95% confidence (subset selection, Gupta 1965,
    "On some multiple decision (selection and ranking) rules").
    `enough` is the place of the smallest amount beyond which no larger one of the grid adds
    `meaningful` or more, at 95% confidence; None if that cannot be said of any but the largest.
    `beyond` is the change from `rises_to` to the larger amount that may add most, None if there is
    no larger one. So a curve that levels off does so between `rises_to` and `enough`.
    """

    model: str
    budget: str
    source: str
    amounts: tuple[float, ...]
    slope: Estimate
    p_slope: float | None
    steps: tuple[Estimate, ...]
    p_steps: tuple[float | None, ...]
    changes: tuple[Estimate, ...] = ()
    best: int = 0
    plausible: tuple[int, ...] = ()
    enough: int | None = None
    meaningful: float = 0.01
    beyond: Estimate | None = None
    beyond_to: int | None = None

    @property
    def rises_to(self) -> int:
        """The place of the smallest amount that may be the best already: the curve rises at least
        up to there."""
        return min(self.plausible, default=0)

    @property
    def falls(self) -> bool:
        """Whether more images are significantly worse over the whole range."""
        return self.p_slope is not None and self.p_slope <= 0.05 and self.slope.value < 0

    @property
    def gains(self) -> bool:
        """Whether more images are significantly better over the whole range."""
        return self.p_slope is not None and self.p_slope <= 0.05 and self.slope.value > 0

    @property
    def still_rising(self) -> bool:
        """Whether the last step up still made it significantly better."""
        return bool(self.p_steps) and _found(self.p_steps[-1]) and self.steps[-1].value > 0

    @property
    def shape(self) -> str:
        """ "falls", "levels off" (by the amount `enough`), "still rises", "rises" (at least to
        `rises_to`; whether it levels off there cannot be told), or "unclear".

        A curve that rises and then stops has a rising slope too, so the slope alone says nothing
        about its end.
        """
        if self.falls:
            return "falls"
        if self.enough is not None and (self.gains or self._ever_better):
            return "levels off"
        if not self.gains:
            return "unclear"
        return "still rises" if self.still_rising else "rises"

    @property
    def worse_steps(self) -> tuple[int, ...]:
        """The steps up that made it significantly worse, by index."""
        found = zip(self.steps, self.p_steps, strict=True)
        return tuple(i for i, (step, p) in enumerate(found) if _found(p) and step.value < 0)

    @property
    def _ever_better(self) -> bool:
        """Whether any amount is clearly better than none (Bonferroni over the amounts)."""
        tests = [each for each in self.changes if each.p is not None and each.value > 0]
        return any((each.p or 0.0) * len(self.changes) <= 0.05 for each in tests)


def _found(p: float | None) -> bool:
    return p is not None and p <= 0.05


def trends(
    scores: Mapping[CellKey, Mapping[str, CellScores]],
    baselines: Mapping[str, CellKey],
    spreads: Mapping[str, SeedSpread | None],
    *,
    meaningful: float,
) -> tuple[Trend, ...]:
    """The trend of each model, budget and source with at least two amounts, not corrected yet.
    `spreads` are those of the headline metric by model."""
    found = []
    for row, keys in _rows(scores, baselines).items():
        cells = [scores[key][HEADLINE_METRIC] for key in keys]
        amounts = tuple(key.ratio for key in keys)
        found.append(_trend(row, amounts, cells, spreads[row[0]], meaningful))
    return tuple(trend for trend in found if trend is not None)


def corrected(found: Mapping[str, Sequence[Trend]]) -> dict[str, tuple[Trend, ...]]:
    """The trends of each test set, their slopes corrected (Holm) over all of them, and so their
    steps."""
    rows = {(test, number): each for test in found for number, each in enumerate(found[test])}
    slopes = holm({row: each.slope.p for row, each in rows.items() if each.slope.p is not None})
    steps = holm(
        {
            (row, number): step.p
            for row, each in rows.items()
            for number, step in enumerate(each.steps)
            if step.p is not None
        }
    )
    return {
        test: tuple(
            replace(
                each,
                p_slope=slopes.get((test, place)),
                p_steps=tuple(
                    steps.get(((test, place), number)) for number in range(len(each.steps))
                ),
            )
            for place, each in enumerate(found[test])
        )
        for test in found
    }


def _rows(
    scores: Mapping[CellKey, Mapping[str, CellScores]], baselines: Mapping[str, CellKey]
) -> dict[Row, list[CellKey]]:
    """The cells of each curve by rising amount, real only first; with one amount the trend equals
    the comparison."""
    rows: dict[Row, list[CellKey]] = defaultdict(list)
    for key in scores:
        if key.regime == "add" and key.model in baselines:
            rows[key.model, key.budget, key.source].append(key)
    return {
        row: [baselines[row[0]], *sorted(keys, key=lambda key: key.ratio)]
        for row, keys in rows.items()
        if len(keys) > 1
    }


def _trend(
    row: Row,
    amounts: tuple[float, ...],
    cells: Sequence[CellScores],
    spread: SeedSpread | None,
    meaningful: float,
) -> Trend | None:
    slope = contrast(slope_terms(amounts, cells), spread=spread)
    if slope is None:
        return None

    def change(low: int, high: int) -> Estimate:
        found = contrast([(1.0, cells[high]), (-1.0, cells[low])], spread=spread, bounds=CHANGE)
        assert found is not None  # every cell has the slope's seeds
        return found

    places = range(len(cells))
    changes = tuple(change(0, place) for place in places[1:])
    levels = [0.0, *(each.value for each in changes)]
    best = max(places, key=lambda place: levels[place])
    plausible = tuple(
        place for place in places if _maybe_best(change(place, best), place, best, cells)
    )
    beyond = [(change(plausible[0], larger), larger) for larger in places[plausible[0] + 1 :]]
    most = max(beyond, key=lambda each: each[0].high or each[0].value, default=(None, None))
    return Trend(
        *row,
        amounts,
        slope,
        None,
        tuple(change(low, high) for low, high in pairwise(places[1:])),
        tuple(None for _ in places[2:]),
        changes,
        best,
        plausible,
        _enough(places, change, meaningful),
        meaningful,
        *most,
    )


def _maybe_best(gap: Estimate, place: int, best: int, cells: Sequence[CellScores]) -> bool:
    """Whether a place is the best one, or not significantly below it (one-sided, Bonferroni)."""
    return place == best or gap.p is None or gap.p / 2 * (len(cells) - 1) > 0.05


def _enough(places: range, change: Callable[[int, int], Estimate], meaningful: float) -> int | None:
    """The smallest place above 0 from which each larger amount adds less than `meaningful`.

    From the largest amount down; the search stops at the first place that fails, and a place needs
    every test of its larger amounts to pass, so that no correction is needed (a fixed sequence of
    intersection-union tests; for these see Berger 1982, "Multiparameter hypothesis testing and
    acceptance sampling").
    """
    enough = None
    for place in reversed(places[1:-1]):
        p_values = [below_p(change(place, larger), meaningful) for larger in places[place + 1 :]]
        if not all(p is not None and p <= 0.05 for p in p_values):
            break
        enough = place
    return enough

"""How much each cell changes from real only, and headline cells from other arms. No torch, no
files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.analysis.cellkey import (
    HEADLINE_METRIC,
    CellKey,
    augmented_cell,
    control_cell,
    random_twin,
)
from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.sequential import ALPHA, levels, sequential_p
from trainer.analysis.statistics.spread import SeedSpread, seed_spreads
from trainer.analysis.statistics.stats import CHANGE, Estimate, contrast
from trainer.arms import SHARED_BUDGET

RIVALS = ("augment", "copies", "more")  # what synthetic images are also compared with
Scores = Mapping[CellKey, Mapping[str, CellScores]]
Spreads = Mapping[tuple[str, str], SeedSpread | None]  # by model and metric
Pair = tuple[CellKey, CellKey]
# From a cell, another, and a metric: their difference, None if they share no seed.
Change = Callable[[CellKey, CellKey, str], Estimate | None]


@dataclass(frozen=True)
class Changes:
    """Changes of each metric from real only, by cell, and of the headline metric between a headline
    cell and a rival."""

    cells: Mapping[CellKey, Mapping[str, Estimate]]
    duels: Mapping[Pair, Estimate]


def changes_of(
    scores: Scores, headlines: set[CellKey], spreads: Spreads, looks: Sequence[int] = ()
) -> Changes:
    """All changes. With `looks`, the seeds of a planned grid's pilot and those at which it is
    looked at, their p-values and intervals hold however early it stopped."""
    last = max((max(each[HEADLINE_METRIC].seeds) for each in scores.values()), default=0)
    done = looks_done(looks, last)
    if not done:
        return _changes(scores, headlines, spreads)
    confidence = 1 - levels(tuple(looks), ALPHA)[len(done) - 1]
    now = _changes(scores, headlines, spreads_of(scores, looks[0]), confidence, looks[0])
    before = [_early(scores, headlines, look, looks[0]) for look in done]
    return Changes(
        {
            key: {
                **each,
                HEADLINE_METRIC: _over_looks(
                    each[HEADLINE_METRIC],
                    [look.cells[key][HEADLINE_METRIC] for look in before if key in look.cells],
                    looks,
                ),
            }
            for key, each in now.cells.items()
        },
        {
            pair: _over_looks(
                each, [look.duels[pair] for look in before if pair in look.duels], looks
            )
            for pair, each in now.duels.items()
        },
    )


def looks_done(looks: Sequence[int], last_seed: int) -> tuple[int, ...]:
    """Those of the looks after the pilot that a grid with seeds up to `last_seed` has reached."""
    return tuple(look for look in looks[1:] if look <= last_seed + 1)


def _early(scores: Scores, headlines: set[CellKey], look: int, pilot: int) -> Changes:
    """What the first `look` seeds showed, of the headline metric alone."""
    early = {
        key: {HEADLINE_METRIC: cell}
        for key, metrics in scores.items()
        if (cell := metrics[HEADLINE_METRIC].between(0, look)).seeds
    }
    return _changes(early, headlines, spreads_of(early, pilot), pilot=pilot)


def _over_looks(now: Estimate, before: Sequence[Estimate], looks: Sequence[int]) -> Estimate:
    """The estimate with a sequential p-value, from those at each look so far."""
    if now.p is None:
        return now
    p_values = [1.0 if each.p is None else each.p for each in before]
    return replace(now, p=sequential_p(p_values, tuple(looks)))


def _changes(
    scores: Scores,
    headlines: set[CellKey],
    spreads: Spreads,
    confidence: float = 1 - ALPHA,
    pilot: int = 0,
) -> Changes:
    def change(key: CellKey, other: CellKey, metric: str) -> Estimate | None:
        return contrast(
            [(1.0, scores[key][metric]), (-1.0, scores[other][metric])],
            spread=spreads[key.model, metric],
            confidence=confidence,
            bounds=CHANGE,
            pilot=pilot,
        )

    cells = _from_real(scores, change)
    return Changes(cells, _duels(scores, headlines & set(cells), change))


def baselines_of(scores: Scores) -> dict[str, CellKey]:
    """The real-only cell of each model."""
    return {key.model: key for key in scores if key.is_baseline}


def spreads_of(scores: Scores, pilot: int = 0) -> Spreads:
    """How much runs scatter between seeds, those below `pilot` left out, by model and metric."""
    by_model: dict[str, list[CellKey]] = defaultdict(list)
    for key in scores:
        by_model[key.model].append(key)
    metrics = next(iter(scores.values()), {})
    return {
        (model, metric): spread
        for metric in metrics
        for model, spread in seed_spreads(
            {
                model: [scores[key][metric].between(pilot) for key in keys]
                for model, keys in by_model.items()
            }
        ).items()
    }


def _from_real(scores: Scores, change: Change) -> dict[CellKey, dict[str, Estimate]]:
    """The change of each metric from real only, for each cell that shares a seed with it."""
    baselines, found = baselines_of(scores), {}
    for key, metrics in scores.items():
        if key.model not in baselines or key.is_baseline:
            continue
        changes = {metric: change(key, baselines[key.model], metric) for metric in metrics}
        if changes[HEADLINE_METRIC] is not None:
            found[key] = {name: each for name, each in changes.items() if each is not None}
    return found


def _duels(scores: Scores, headlines: set[CellKey], change: Change) -> dict[Pair, Estimate]:
    """Each headline cell against what costs less or is real: augmentation, copies, more images;
    against as many images of the source that the plan names first; each selection against as many
    images at random; auxiliary batch normalisation, stratified batches and an end on real images
    against their controls; and synthetic images with an augmentation of their own against the real
    ones with it.

    Of copies and additional real images it is the arm with as many, else the one with the most.
    """
    found = {}
    for key in scores:
        twins = (
            random_twin(key, scores),
            control_cell(key, scores),
            augmented_cell(key, scores),
        )
        rivals = [twin for twin in twins if twin is not None]
        if key in headlines:
            rivals += [*_first_source(key, headlines, scores), *_rivals(key, scores)]
        for rival in rivals:
            difference = change(key, rival, HEADLINE_METRIC)
            if difference is not None:
                found[key, rival] = difference
    return found


def _first_source(key: CellKey, headlines: set[CellKey], scores: Scores) -> list[CellKey]:
    """The headline that differs from `key` in its source alone and comes first, if not `key`."""
    same = (each for each in scores if replace(each, arm=key.arm, source=key.source) == key)
    first = next(each for each in same if each in headlines)
    return [first] if first != key else []


def _rivals(key: CellKey, scores: Scores) -> list[CellKey]:
    beside = [
        each
        for each in scores
        if each.model == key.model
        and each.regime in RIVALS
        and each.budget in (key.budget, SHARED_BUDGET)
    ]
    found = []
    for regime in RIVALS:
        same = [each for each in beside if each.regime == regime]
        if regime == "augment":
            found += same
        elif same:
            found.append(max(same, key=lambda each: (each.ratio == key.ratio, each.ratio)))
    return found

"""What a reader must know before relying on a grid's numbers. No HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.results import Results
from trainer.analysis.statistics.stats import Estimate, detectable
from trainer.analysis.statistics.trends import Trend
from trainer.report.wording import (
    arm_title,
    budget_note,
    drawn_share,
    interval,
    margin,
    model_noun,
    model_title,
    on_test,
    p_value,
    per_class,
    percent,
    points,
    pool_size,
)
from trainer.runs import Grid

_ENOUGH_SEEDS = 5
_LISTED = 4
_POWER = 0.8
# Of the pool. Where draws share a tenth, the true spread of a mean of 5 seeds is up to a quarter
# larger than theirs shows: sqrt(1 + 5 * 0.1 / 0.9).
_MUCH_DRAWN = 0.1
_COMPARABLE = 3  # seeds, from which one can be called an exception


def warnings(results: Results) -> list[str]:
    """What a reader must know before relying on the numbers, worst first."""
    on_each = results.on_each
    return [
        *(warning for each in on_each for warning in _harm(each)),
        *(f"Run {run.run_id} failed: {run.error}" for run in results.grid.failed()),
        *_stuck(results),
        *_collapsed(results),
        *(warning for each in on_each for warning in _near_chance(each)),
        *_gaps(results),
        *_doubts(results),
        *_capped(results.grid),
        *_leaks(results.grid),
        *_renamed(results),
        *_two_labels(results.grid),
        *_overlap(results.grid),
        *_no_backbone(results.grid),
        *(warning for each in on_each for warning in _beaten(each)),
        *(warning for each in on_each for warning in _blind_spots(each)),
    ]


def _harm(results: Results) -> Iterator[str]:
    """Where synthetic images, or more of them, make results worse."""
    for key, comparison in results.verdicts.comparisons.items():
        if key.regime == "add" and comparison.verdict == "worse":
            change = comparison.changes[HEADLINE_METRIC]
            yield (
                f"Synthetic images made {model_noun(results.grid, key.model)} worse"
                f"{on_test(results)}: "
                f"{arm_title(results.grid, key)}{budget_note(key)}, macro F1 "
                f"{points(change.value)} points ({interval(change)}, {p_value(comparison.p_holm)})."
            )
    for trend in results.verdicts.trends:
        yield from _falling(results, trend)


def _falling(results: Results, trend: Trend) -> Iterator[str]:
    named = f" from {trend.source}" if len(results.grid.info.get("sources", {})) > 1 else ""
    note = budget_note(CellKey(trend.model, budget=trend.budget))
    where = f"for {model_noun(results.grid, trend.model)}{on_test(results)}{note}"
    if trend.falls:
        yield (
            f"More synthetic images{named} made results worse {where}: macro F1 changes by "
            f"{points(trend.slope.value)} points for each additional synthetic image per real one "
            f"({interval(trend.slope)}, {p_value(trend.p_slope)})."
        )
    for number in trend.worse_steps:
        low, high = trend.amounts[number + 1 : number + 3]
        step = trend.steps[number]
        yield (
            f"More was worse {where}: from ratio {low:g} to {high:g}{named} macro F1 changed by "
            f"{points(step.value)} points ({interval(step)}, {p_value(trend.p_steps[number])})."
        )


def _gaps(results: Results) -> Iterator[str]:
    grid = results.grid
    missing = sum(run.status == "missing" for run in grid.runs)
    if missing:
        yield (
            f"{missing} of {len(grid.runs)} runs have not been trained; run the same grid command "
            "to resume."
        )
    planned = Counter((run.model, run.arm, run.budget) for run in grid.runs)
    names = {
        key: f"{model_title(grid, key.model)}, {arm_title(grid, key)}{budget_note(key)}"
        for key in results.keys
    }
    counts = {
        key: (len(results.runs[key]), planned[key.model, key.arm, key.budget])
        for key in results.keys
    }
    yield from _listed(
        "No finished run for", [names[key] for key, (done, _) in counts.items() if not done]
    )
    yield from _listed(
        "Compared on fewer seeds",
        [
            f"{names[key]} ({done} of {wanted})"
            for key, (done, wanted) in counts.items()
            if 0 < done < wanted
        ],
    )


def _listed(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f"; and {len(names) - _LISTED} more" * (len(names) > _LISTED)
        yield f"{what}: {'; '.join(names[:_LISTED])}{more}."


def _doubts(results: Results) -> Iterator[str]:
    grid = results.grid
    if grid.info["config"]["quick"]:
        yield "This is a --quick grid: few and small images, few updates. Its numbers mean nothing."
    for model, entry in grid.info["models"].items():
        if entry["weights"] == "untrained":
            yield (
                f"{model}: untrained backbone. Its weights are random, so the result says nothing "
                f"about a pretrained {model}."
            )
    seeds = len({run.seed for run in grid.runs})
    if seeds == 1:
        yield (
            "Only one seed: the variation between seeds is unknown, so nothing is tested. "
            "Use --seeds 5."
        )
    elif seeds < _ENOUGH_SEEDS and not results.looks:
        yield (
            f"Only {seeds} seeds: intervals are wide and real effects may be missed. "
            "Use five or more (--seeds 5)."
        )


def _renamed(results: Results) -> Iterator[str]:
    """Models whose headline was another one when their first runs were trained."""
    for entry in results.grid.info.get("former_headlines", ()):
        former = CellKey(**entry)
        now = [key for key in results.headlines(former.model) if key.source == former.source]
        if now:
            yield (
                f"The headline of {model_noun(results.grid, former.model)} was "
                f"{_named(results, former)} in an earlier plan of this grid, of which runs were "
                f"trained; now it is {_named(results, now[0])}. If results were known when the "
                "plan changed, this headline was not named before training: read it as exploratory."
            )


def _named(results: Results, key: CellKey) -> str:
    return f"“{arm_title(results.grid, key)}{budget_note(key)}”"


def _overlap(grid: Grid) -> Iterator[str]:
    """Draws of training images that have much in common."""
    share = drawn_share(grid)
    if share is not None and share > _MUCH_DRAWN:
        yield (
            f"Each seed draws {per_class(grid, 'train')} real training images per class from "
            f"{pool_size(grid)}, so draws have {share:.0%} of their images in common on average. "
            "Intervals hold for draws from this pool, and are too narrow for other real images: "
            "draw fewer, or add images with --more-real."
        )


def _blind_spots(results: Results) -> Iterator[str]:
    """The smallest change likely to be detected, where the answer is that it cannot tell."""
    for model in results.models:
        for key in results.headlines(model)[:1]:
            comparison = results.comparison(key)
            if comparison is None or comparison.verdict != "unclear":
                continue
            least = detectable(
                comparison.changes[HEADLINE_METRIC], tests=comparison.family, power=_POWER
            )
            if least is not None:
                yield (
                    "Cannot tell does not mean no change: for "
                    f"{model_noun(results.grid, model)}{on_test(results)}, a true change of "
                    f"{percent(min(1.0, least))} points would be found in about {_POWER:.0%} of "
                    "such grids, a smaller one less often. More seeds or test images would detect "
                    "smaller ones."
                )


def _stuck(results: Results) -> Iterator[str]:
    """Trainings that never left chance, and those that started again."""
    runs = [run for key in results.keys for run in results.runs[key].values()]
    stuck = [run.run_id for run in runs if run.metrics.get("collapsed")]
    if stuck:
        more = f" and {len(stuck) - _LISTED} more" * (len(stuck) > _LISTED)
        yield (
            "Even on their training images these runs are no better than guessing, so they say "
            f"nothing about what they were trained on: {', '.join(stuck[:_LISTED])}{more}."
        )
    again = [run.run_id for run in runs if run.metrics.get("retries")]
    if again:
        yield (
            f"{len(again)} of {len(runs)} trainings diverged or stayed at chance and started again "
            "with a third of the learning rate, by a rule that is the same for every arm."
        )


def _collapsed(results: Results) -> Iterator[str]:
    """Runs far below the other seeds of their cell: less than half of their median macro F1."""
    found = []
    for key in results.keys:
        values = {seed: run.metrics.get("f1") for seed, run in results.runs[key].items()}
        known = {seed: float(value) for seed, value in values.items() if value is not None}
        if len(known) < _COMPARABLE:
            continue
        usual = float(np.median(list(known.values())))
        found += [
            f"{results.runs[key][seed].run_id} ({percent(value)}% where the median of its seeds is "
            f"{percent(usual)}%)"
            for seed, value in known.items()
            if value < usual / 2
        ]
    if found:
        more = f"; and {len(found) - _LISTED} more" * (len(found) > _LISTED)
        yield (
            f"Collapsed runs, by macro F1: {'; '.join(found[:_LISTED])}{more}. They count like all "
            "others, and make intervals wide."
        )


def _near_chance(results: Results) -> Iterator[str]:
    """Models that have not learned anything from the real images."""
    if not results.true.size:
        return
    chance = float(np.bincount(results.true).max() / results.true.size)
    for model in results.models:
        found = results.metrics.get(results.baseline(model), {}).get("accuracy")
        if found is None:
            continue
        low = found.value if found.low is None else found.low
        if low <= chance:
            yield (
                f"With real images only, {model_noun(results.grid, model)} is near chance"
                f"{on_test(results)}: "
                f"accuracy {percent(found.value)}%, always naming the most frequent class "
                f"{percent(chance)}%. Comparisons of models that have not learned say little."
            )


def _is_backbone(entry: Mapping[str, Any]) -> bool:
    """Whether a model is a frozen backbone with pretrained weights."""
    return bool(entry["frozen"]) and entry["weights"] != "untrained"


def _no_backbone(grid: Grid) -> Iterator[str]:
    """Models trained from scratch without a pretrained one beside them."""
    entries = grid.info["models"].values()
    scratch = [entry["noun"] for entry in entries if not entry["weights"]]
    if scratch and not any(map(_is_backbone, entries)):
        yield (
            f"No frozen pretrained backbone beside {' and '.join(scratch)}: with few images a "
            "linear classifier on its features is often better than a network trained from "
            "scratch. Add one, as in --models cnn,lite0."
        )


def _beaten(results: Results) -> Iterator[str]:
    """Models trained from scratch that a frozen backbone on the real images alone beats."""
    entries = results.grid.info["models"]
    best = {
        model: max(scores, key=lambda each: each.value)
        for model in results.models
        if (scores := _f1_of(results, results.of(model)))
    }
    frozen = [
        (found[0], model)
        for model in best
        if _is_backbone(entries[model]) and (found := _f1_of(results, [results.baseline(model)]))
    ]
    if not frozen:
        return
    reference, backbone = max(frozen, key=lambda each: each[0].value)
    for model, score in best.items():
        if not entries[model]["weights"] and score.value < reference.value:
            yield (
                f"With real images only{on_test(results)}, {model_noun(results.grid, backbone)} "
                f"has a macro F1 of {_percent(reference)}, more than "
                f"{model_noun(results.grid, model)} with any images (at most {_percent(score)})."
            )


def _percent(f1: Estimate) -> str:
    return f"{percent(f1.value)}% {margin(HEADLINE_METRIC, f1)}".strip()


def _f1_of(results: Results, keys: Sequence[CellKey]) -> list[Estimate]:
    return [results.metrics[key][HEADLINE_METRIC] for key in keys if key in results.metrics]


def _leaks(grid: Grid) -> Iterator[str]:
    leaks = grid.info.get("leaks")
    if leaks and leaks["test_images"] and not leaks["dropped"]:
        count = leaks["test_images"]
        test_images = "1 test image is" if count == 1 else f"{count} test images are"
        yield (
            f"{test_images} also among the training images, exactly or nearly, so scores are too "
            "high. The section Leaks has the pairs; --drop-leaks leaves them out of training."
        )


def _two_labels(grid: Grid) -> Iterator[str]:
    """Files of which one label must be wrong; grid.json lists the first ones."""
    found = grid.info.get("leaks", {}).get("two_labels", ())
    if found:
        places = " = ".join(f"{each['part']}/{each['file']}" for each in found[0])
        yield (
            f"Files occur under two labels, one of which must be wrong, such as {places}; "
            "`synthgrid leaks` lists them."
        )


def _capped(grid: Grid) -> Iterator[str]:
    """Arms that have fewer images than their name says."""
    short: dict[str, list[dict[str, Any]]] = {}
    for each in grid.info.get("capped", ()):
        short.setdefault(each["arm"], []).append(each)
    for arm, classes in short.items():
        worst = min(classes, key=lambda each: each["there"] / each["wanted"])
        yield (
            f"Arm {arm} has fewer images than it asks for in "
            f"{'1 class' if len(classes) == 1 else f'{len(classes)} classes'}: {worst['there']} "
            f"instead of {worst['wanted']} of '{worst['label']}'."
        )

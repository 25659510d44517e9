"""Numbers and cells in words: the report's sentences, names and warnings. No HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trainer.analysis.comparisons import HEADLINE_METRIC, CellKey, Trend
from trainer.analysis.results import Results
from trainer.analysis.stats import Estimate
from trainer.arms import MIXES, SHARED_BUDGET
from trainer.runs import Grid

BUDGET_TITLES = {
    "updates": "Same number of optimiser updates",
    "epochs": "Same number of epochs",
    SHARED_BUDGET: "As many images as real only: the two budgets coincide",
}
BUDGET_SHORT = {"updates": "same updates", "epochs": "same epochs", SHARED_BUDGET: ""}
VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "no measurable change",
    "untested": "one seed, no test",
}
_ENOUGH_SEEDS = 5
_GAPS_LISTED = 4
_DETECTABLE = 2.8  # standard errors: a true change this large is found in 80% of grids at p <= 0.05
_MINUS = "−"


def points(value: float) -> str:
    """A share as signed percentage points: 0.081 is "+8.1"."""
    return f"{round(value * 100, 1) + 0.0:+.1f}".replace("-", _MINUS)


def percent(value: float) -> str:
    """A share in percent: 0.613 is "61.3"."""
    return f"{value * 100:.1f}".replace("-", _MINUS)


def metric_value(name: str, value: float) -> str:
    """A metric as the tables show it: percent, or nats."""
    return f"{value:.3f}" if name == "nll" else percent(value)


def margin(name: str, estimate: Estimate) -> str:
    """Half the width of a cell's interval, as "±2.4"; "" with one seed."""
    if estimate.low is None or estimate.high is None:
        return ""
    half = (estimate.high - estimate.low) / 2
    return f"±{half:.3f}" if name == "nll" else f"±{half * 100:.1f}"


def interval(change: Estimate) -> str:
    """A change's 95% interval in points."""
    if change.low is None or change.high is None:
        return "one seed, no interval"
    return f"95% CI {points(change.low)} to {points(change.high)}"


def p_value(p: float | None) -> str:
    """ "p = 0.031", "p < 0.001"."""
    if p is None:
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def model_title(grid: Grid, model: str) -> str:
    """A model's display name; an untrained backbone is always marked as such."""
    entry = grid.info["models"][model]
    return (
        f"{entry['title']} - untrained backbone"
        if entry["weights"] == "untrained"
        else str(entry["title"])
    )


def model_noun(grid: Grid, model: str) -> str:
    """A model's name in a sentence."""
    entry = grid.info["models"][model]
    return (
        f"{entry['noun']} (untrained backbone)"
        if entry["weights"] == "untrained"
        else str(entry["noun"])
    )


def per_class(grid: Grid, part: str) -> str:
    """Images per class of a part (train, test, synthetic, more): "5", or "4 to 6" if classes
    differ."""
    return _range(grid.info["images_per_class"][part])


def added_per_class(grid: Grid, amount: float) -> str:
    """Images per class that `amount` images for each real training image come to."""
    return _range([int(amount * count + 0.5) for count in grid.info["images_per_class"]["train"]])


def _range(counts: list[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def arm_title(grid: Grid, key: CellKey) -> str:
    """What a cell trains on, for a table: "real + 30 synthetic"."""
    added = added_per_class(grid, key.ratio)
    share = f"{key.ratio * 100:g}%"
    named = f" ({key.source})" if key.source and len(grid.info.get("sources", {})) > 1 else ""
    regime, plus, change = key.regime.partition("+")
    if regime.startswith("augment"):
        return f"real, {_augmentation(regime)}"
    return {
        "real": "real only",
        "add": f"real + {added} synthetic{named}",
        "swap": f"{share} of real replaced by synthetic{named}",
        "fewer": f"{share} of real",
        "only": f"{added} synthetic only{named}",
        "balance": f"classes filled up with synthetic{named}",
        "copies": f"real + {added} rotated or mirrored copies",
        "more": f"real + {added} additional real",
    }[regime] + (f", {_augmentation(change)}" if plus else "")


def _augmentation(change: str) -> str:
    """ "standard augmentation" for "augment", "trivial augmentation" for "augment:trivial"."""
    kind = change.partition(":")[2] or "standard"
    return (
        kind if kind in MIXES else "no augmentation" if kind == "none" else f"{kind} augmentation"
    )


def budget_note(key: CellKey) -> str:
    """ ", same updates"; "" if the budgets coincide."""
    short = BUDGET_SHORT[key.budget]
    return f", {short}" if short else ""


# --- the answer ---


def answers(results: Results) -> list[str]:
    """For each model one sentence per source, about the most synthetic images added from it."""
    found = []
    for model in results.models:
        keys = results.headlines(model)
        if not keys:
            found.append(
                f"{model_title(results.grid, model)}: no finished cell with synthetic images to "
                "compare with real only."
            )
        found += [_answer(results, key) for key in keys]
    return found


def _answer(results: Results, key: CellKey) -> str:
    grid, comparison = results.grid, results.comparison(key)
    assert comparison is not None
    change, noun = comparison.changes[HEADLINE_METRIC], model_noun(grid, key.model)
    start = f"With {per_class(grid, 'train')} real images per class, {_deed(grid, key)}"
    amount = f"{points(change.value)} points"
    if comparison.verdict == "untested":
        return (
            f"{start} changed the macro F1 of {noun} by {amount} with a single seed: no interval, "
            "no test."
        )
    count = len(results.verdicts.comparisons)
    corrected = f" after correction for {count} comparisons" * (count > 1)
    facts = f"{interval(change)}, {p_value(comparison.p_holm)}{corrected}"
    twin = f"{_twin(results, key)}."
    if comparison.verdict == "unclear":
        return (
            f"{start} made no measurable change to the macro F1 of {noun} ({amount}, {facts}){twin}"
        )
    return f"{start} changed the macro F1 of {noun} by {amount} ({facts}){twin}"


def _deed(grid: Grid, key: CellKey) -> str:
    made = f"from {key.source} " if len(grid.info.get("sources", {})) > 1 else ""
    if key.regime == "add":
        return f"adding {added_per_class(grid, key.ratio)} synthetic {made}".rstrip()
    return f"training on {arm_title(grid, key)}"


def _twin(results: Results, key: CellKey) -> str:
    """The same arm under the other budget, as the end of a sentence."""
    twin = results.twin(key)
    comparison = results.comparison(twin) if twin else None
    if twin is None or comparison is None or comparison.verdict == "untested":
        return ""
    change = comparison.changes[HEADLINE_METRIC]
    unclear = ": no measurable change" * (comparison.verdict == "unclear")
    return (
        f"; with the {BUDGET_SHORT[twin.budget].replace('same', 'same number of')} "
        f"{points(change.value)} ({interval(change)}, {p_value(comparison.p_holm)}{unclear})"
    )


# --- warnings ---


def warnings(results: Results) -> list[str]:
    """What a reader must know before relying on the numbers, worst first."""
    return [
        *_harm(results),
        *(f"Run {run.run_id} failed: {run.error}" for run in results.grid.failed()),
        *_gaps(results),
        *_doubts(results),
        *_leaks(results.grid),
        *_blind_spots(results),
    ]


def _harm(results: Results) -> Iterator[str]:
    """Where synthetic images, or more of them, make results worse."""
    for key, comparison in results.verdicts.comparisons.items():
        if key.regime == "add" and comparison.verdict == "worse":
            change = comparison.changes[HEADLINE_METRIC]
            yield (
                f"Synthetic images made {model_noun(results.grid, key.model)} worse: "
                f"{arm_title(results.grid, key)}{budget_note(key)}, macro F1 "
                f"{points(change.value)} points ({interval(change)}, {p_value(comparison.p_holm)})."
            )
    for trend in results.verdicts.trends:
        yield from _falling(results, trend)


def _falling(results: Results, trend: Trend) -> Iterator[str]:
    named = f" from {trend.source}" if len(results.grid.info.get("sources", {})) > 1 else ""
    note = budget_note(CellKey(trend.model, budget=trend.budget))
    where = f"for {model_noun(results.grid, trend.model)}{note}"
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
        more = f"; and {len(names) - _GAPS_LISTED} more" * (len(names) > _GAPS_LISTED)
        yield f"{what}: {'; '.join(names[:_GAPS_LISTED])}{more}."


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
    elif seeds < _ENOUGH_SEEDS:
        yield (
            f"Only {seeds} seeds: intervals are wide and real effects may be missed. "
            "Use five or more (--seeds 5)."
        )


def _blind_spots(results: Results) -> Iterator[str]:
    """The smallest change likely to be detected, where none was measured."""
    for model in results.models:
        for key in results.headlines(model)[:1]:
            comparison = results.comparison(key)
            if comparison is None or comparison.verdict != "unclear":
                continue
            error = comparison.changes[HEADLINE_METRIC].se or 0.0
            yield (
                "No measurable change does not mean no change: for "
                f"{model_noun(results.grid, model)}, a true change of less than about "
                f"{percent(_DETECTABLE * error)} points is easily missed here. More seeds or test "
                "images would detect smaller ones."
            )


def _leaks(grid: Grid) -> Iterator[str]:
    leaks = grid.info.get("leaks")
    if leaks and leaks["test_images"] and not leaks["dropped"]:
        yield (
            f"{leaks['test_images']} test images are also among the training images, exactly or "
            "nearly, so scores are too high. They are listed under Leaks; --drop-leaks leaves "
            "them out of training."
        )

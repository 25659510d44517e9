"""The answer of a grid in sentences: one verdict per source, the numbers, what synthetic images are
worth, and whether the grid finds an effect that is known. No HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.comparisons import Comparison, Duel
from trainer.analysis.exchange import Exchange
from trainer.analysis.results import Results
from trainer.analysis.statistics.power import MOST_SEEDS, SeedPlan, plan_seeds
from trainer.analysis.statistics.stats import Estimate, holm
from trainer.arms import SHARED_BUDGET, STRATIFIED, control_of, ends_on_real, norms_of, plain_arm
from trainer.config.selection import RANDOM
from trainer.report.wording import (
    BUDGET_SHORT,
    SUGGESTIVE,
    added_per_class,
    arm_title,
    budget_note,
    counted,
    interval,
    model_noun,
    model_title,
    on_test,
    p_value,
    per_class,
    percent,
    point_count,
    points,
    scope,
    verdict,
)
from trainer.runs import Grid

_KNOWN = ("more", "fewer")  # arms whose effect is known beforehand
_NO_CONTROL = (
    "Positive control: none. The arm fewer:0.5, as in --ratios 0,1 --arms fewer:0.5, would show "
    "whether this grid finds an effect that is certain: that of half of the real images."
)


def short_verdicts(results: Results) -> list[str]:
    """For each test set and synthetic source one short sentence about all models."""
    return [sentence for each in results.on_each for sentence in _short_verdicts(each)]


def _short_verdicts(results: Results) -> list[str]:
    found: dict[str, list[str]] = {}
    for model in results.models:
        for key in results.headlines(model):
            comparison = results.comparison(key)
            if comparison is not None:
                found.setdefault(key.source, []).append(_short(results, key, comparison))
    several = len(found) > 1
    return [
        f"Synthetic images{f' from {source}' * several}{on_test(results)}: {'; '.join(clauses)}."
        for source, clauses in found.items()
    ]


def _short(results: Results, key: CellKey, comparison: Comparison) -> str:
    change, noun = comparison.changes[HEADLINE_METRIC], model_noun(results.grid, key.model)
    amount = f"{points(change.value)} points of macro F1"
    if comparison.verdict in ("better", "worse"):
        word = "help" if comparison.verdict == "better" else "hurt"
        ends = [abs(end) for end in (change.low, change.high) if end is not None]
        return f"{word} {noun} ({amount}, at least {points(min(ends)).removeprefix('+')})"
    hint = f"; {SUGGESTIVE}" * comparison.is_suggestive
    words = verdict(comparison).removesuffix(f" ({SUGGESTIVE})")
    return f"{words} for {noun} ({amount}{hint})"


def answers(results: Results) -> list[str]:
    """For each test set and model one answer per source, about the most synthetic images added from
    it."""
    return [sentence for each in results.on_each for sentence in _answers(each)]


def _answers(results: Results) -> list[str]:
    found = []
    for model in results.models:
        keys = [key for key in results.headlines(model) if results.comparison(key)]
        if not keys:
            found.append(
                f"{model_title(results.grid, model)}: no finished cell with synthetic images to "
                "compare with real only."
            )
        found += [_answer(results, key) for key in keys]
        found += [
            _between_sources(results, duel)
            for duel in results.verdicts.duels
            if duel.key.model == model and duel.between_sources
        ]
        asked = {(key.arm, key.budget) for key in keys}
        found += [
            _told_apart(results, duel)
            for duel in results.verdicts.duels
            if duel.key.model == model
            and duel.rival.arm == control_of(duel.key.arm)
            and (plain_arm(duel.key.arm), duel.key.budget) in asked
        ]
    return found


def _between_sources(results: Results, duel: Duel) -> str:
    """What a selection gives beyond as many images at random, or a source beyond the first."""
    change, noun = duel.change, model_noun(results.grid, duel.key.model)
    facts = f"{interval(change)}, {p_value(duel.p_holm)}, exploratory"
    source, rival = duel.key.source, duel.rival.source
    at_random = rival.endswith(RANDOM)
    deed = "Selecting" if at_random else "Taking images from"
    other = "at random" if at_random else f"from '{rival}'"
    return (
        f"{deed} '{source}' changed the macro F1 of {noun}{on_test(results)} by "
        f"{points(change.value)} points against as many images {other}{budget_note(duel.key)} "
        f"({facts}): {verdict(duel)}."
    )


def _told_apart(results: Results, duel: Duel) -> str:
    """What auxiliary batch normalisation, stratified batches or an end on real images give beyond
    their control."""
    change, noun = duel.change, model_noun(results.grid, duel.key.model)
    facts = f"{interval(change)}, {p_value(duel.p_holm)}, exploratory"
    deed, rival = "Auxiliary batch normalisation", "the same batches and loss without it"
    if ends_on_real(duel.key.arm):
        deed, rival = "Ending on the real images alone", "training on both to the end"
    elif norms_of(duel.key.arm) == STRATIFIED:
        deed, rival = "Stratified batches and their loss", "batches drawn from all images"
    return (
        f"{deed} changed the macro F1 of {noun}{on_test(results)} at "
        f"{plain_arm(duel.key.arm)}{budget_note(duel.key)} by {points(change.value)} points "
        f"against {rival} ({facts}): {verdict(duel)}."
    )


def _answer(results: Results, key: CellKey) -> str:
    grid, comparison = results.grid, results.comparison(key)
    assert comparison is not None
    change, noun = comparison.changes[HEADLINE_METRIC], model_noun(grid, key.model)
    start = f"With {per_class(grid, 'train')} real images per class, {_deed(grid, key)} changed"
    amount = f"the macro F1 of {noun}{on_test(results)} by {points(change.value)} points"
    if comparison.verdict == "untested":
        return f"{start} {amount} with a single seed: no interval, no test."
    facts = f"{interval(change)}, {p_value(comparison.p_holm)}{_family(comparison)}"
    sentences = [
        f"{start} {amount} {scope(grid)} ({facts}): {verdict(comparison)}{_twin(results, key)}.",
        worth(grid, key, results.verdicts.exchanges.get(key)),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _family(comparison: Comparison) -> str:
    """For how many comparisons, and of which kind, a p-value is corrected."""
    kind = "headline" if comparison.is_headline else "exploratory"
    if comparison.family == 1:
        return "" if comparison.is_headline else ", exploratory"
    return f" after correction for {comparison.family} {kind} comparisons"


def _deed(grid: Grid, key: CellKey) -> str:
    made = "synthetic ones"
    if len(grid.info.get("sources", {})) > 1:
        made += f" from {key.source}"
    deeds = {
        "add": f"adding {added_per_class(grid, key.ratio)} {made}",
        "swap": f"replacing {key.ratio * 100:g}% of them by {made}",
        "only": f"training on {added_per_class(grid, key.ratio)} {made} instead",
        "balance": f"filling up every class with {made}",
        "fill": f"filling up every class to {key.ratio:g} with {made}",
    }
    return deeds.get(key.regime, f"training on {arm_title(grid, key)}")


def _twin(results: Results, key: CellKey) -> str:
    """The same arm under the other budget, as the end of a sentence."""
    twin = results.twin(key)
    comparison = results.comparison(twin) if twin else None
    if twin is None or comparison is None or comparison.verdict == "untested":
        return ""
    change = comparison.changes[HEADLINE_METRIC]
    return (
        f"; with the {BUDGET_SHORT[twin.budget].replace('same', 'same number of')} "
        f"{points(change.value)} ({interval(change)}, {p_value(comparison.p_holm)}, exploratory): "
        f"{verdict(comparison)}"
    )


def worth(grid: Grid, key: CellKey, rate: Exchange | None) -> str:
    """What the images of an arm are worth in real ones, as a sentence; "" without a curve."""
    if rate is None:
        return ""
    made = f"{added_per_class(grid, key.ratio)} synthetic images per class"
    if key.regime != "add":
        made = f"The images of {key.arm}"
    if rate.low is None and rate.high is None:
        return f"The learning curve is too uncertain to say what {made} are worth in real ones."
    if rate.value is None:
        known = rate.high if rate.low is None else rate.low
        side = "at most" if rate.low is None else "at least"
        assert known is not None
        return f"{made} were worth {side} {_count(known)} (95%){_measured(rate)}."
    ends = (
        f"at most {_number(rate.high)}"
        if rate.low is None and rate.high is not None
        else f"{_number(rate.low or 0.0)} or more"
        if rate.high is None
        else f"{_number(rate.low or 0.0)} to {_number(rate.high)}"
    )
    return f"{made} were worth {_count(rate.value)} (95% {ends}){_measured(rate)}."


def _measured(rate: Exchange) -> str:
    """How far the learning curve goes, where the worth lies beyond it."""
    reach = rate.measured_to - rate.base
    most = max(rate.value or 0.0, rate.high or 0.0)
    if most <= reach and rate.high is not None:
        return ""
    return (
        f", extrapolated: the learning curve ends at {rate.measured_to:.0f} real images per class"
    )


def _count(value: float) -> str:
    more = "real one" if round(value) == 1 else "real ones"
    return f"{_number(value)} {more}"


def _number(value: float) -> str:
    return f"{round(value) + 0:d}".replace("-", "−")


def controls(results: Results) -> list[str]:
    """Whether the grid finds what is known to matter: more real images, or fewer. One sentence for
    each test set and model that has such an arm, or one that says how to have it.

    They are tested as headlines are: alone, or corrected (Holm) for those of the other models and
    test sets.
    """
    known = {
        (each.test, model): key
        for each in results.on_each
        for model in results.models
        if (key := _control(each, model))
    }
    if not known:
        planned = any(key.regime in _KNOWN for key in results.keys)
        return [] if planned else [_NO_CONTROL]
    changes = {
        (test, model): results.on(test).verdicts.comparisons[key].changes[HEADLINE_METRIC]
        for (test, model), key in known.items()
    }
    tested = holm({place: each.p for place, each in changes.items() if each.p is not None})
    return [
        _found_or_not(results.on(place[0]), known[place], changes[place], p)
        for place, p in tested.items()
    ]


def _control(results: Results, model: str) -> CellKey | None:
    """The arm that differs most from real only in its number of real images, under the budget of
    the headline. The plan decides, not the results."""
    known = [key for key in results.of(model) if key.regime in _KNOWN and results.comparison(key)]
    budgets = [key.budget for key in (*results.headlines(model), *known)]
    budget = next((each for each in budgets if each != SHARED_BUDGET), "")
    return max((key for key in known if key.budget == budget), key=_factor, default=None)


def _factor(key: CellKey) -> float:
    """How many times as many real images the larger of an arm and real only has."""
    return 1 + key.ratio if key.regime == "more" else 1 / key.ratio


def _found_or_not(results: Results, key: CellKey, change: Estimate, p: float) -> str:
    more = key.regime == "more"
    found = p <= 0.05 and (change.value > 0) == more
    missed = "an effect of that size can be missed here"
    end = "" if found else ": " + (missed if p > 0.05 else "the opposite was, which is suspicious")
    deed = (
        f"{_times(_factor(key))} the real images"
        if more
        else f"training on {key.ratio * 100:g}% of the real images"
    )
    return (
        f"Positive control: {deed} was {'' if found else 'not '}found to "
        f"{'help' if more else 'hurt'} {model_noun(results.grid, key.model)}{on_test(results)}"
        f"{budget_note(key)} ({points(change.value)} points, {interval(change)}, {p_value(p)}, "
        f"tested as a headline){end}."
    )


def _times(factor: float) -> str:
    return {2.0: "doubling", 3.0: "tripling"}.get(factor, f"taking {factor:g} times")


def plans(results: Results) -> list[str]:
    """For each model how many seeds would find the change that was asked for, and their price; of
    a grid that planned its seeds, what became of the plan."""
    if results.looks:
        return [_looks(results)]
    if results.detect is None:
        return []
    return [sentence for model in results.models for sentence in _plan(results, model)]


def _looks(results: Results) -> str:
    looks, detect = results.looks[1:], results.grid.info["config"].get("detect")
    seeds = len({run.seed for run in results.grid.runs})
    places = ", ".join(map(str, looks[:-1])) + f" and {looks[-1]}" if looks[1:] else str(looks[0])
    early = ""
    if seeds < looks[-1] and results.is_decided:
        early = (
            f"It stopped after {seeds}, since every headline was decided. A change that is found "
            "early is on average a little too large. "
        )
    return (
        f"After a pilot of {results.looks[0]} seeds, the grid was planned to find a change of "
        f"{detect:g} points, with tests after {places} seeds. {_out_of_reach(results)}{early}"
        "p-values and intervals of changes allow for the pilot and for testing several times."
    )


def _out_of_reach(results: Results) -> str:
    """What keeps a plan from finding the change that was asked for, and what it finds instead."""
    plan = results.look_plan
    if plan is None or not plan.limit:
        return ""
    found = f"a change of {percent(min(1.0, plan.detects))} points is found in 80% of such grids"
    if plan.limit == "seeds":
        return f"That takes more seeds than were allowed: with {plan.looks[-1]}, {found}. "
    return (
        f"Test images are the limit: with {plan.looks[-1]} seeds {found}, and about "
        f"{plan.test_images:.1f} times as many test images are needed. "
    )


def _plan(results: Results, model: str) -> Iterator[str]:
    compared = [key for key in results.headlines(model) if results.comparison(key)]
    found = [_seed_plan(results, key) for key in compared]
    known = [plan for plan in found if plan is not None]
    noun, size = model_noun(results.grid, model), point_count(results.detect or 0.0)
    if not known:
        return
    plan = max(known, key=lambda each: (each.seeds or math.inf, each.test_images))
    start = f"To find a change of {size} in {noun} in 80% of such grids"
    seeds = len({run.seed for run in results.grid.runs})
    if plan.test_images > 1:
        yield (
            f"{start}, test images are the limit: however many seeds there are, they find no less "
            f"than {plan.smallest * 100:.1f} points; at least {plan.test_images:.1f} times as many "
            "test images are needed."
        )
    elif plan.seeds is None:
        yield f"{start}, more than {MOST_SEEDS} seeds are needed."
    elif plan.seeds <= seeds:
        yield f"{start}, the grid's {seeds} seeds are enough."
    else:
        yield (
            f"{start}, {plan.seeds} seeds are needed (--seeds {plan.seeds}; the grid has {seeds})"
            f"{_price(results, model, plan.seeds - seeds)}. Decide before you look at the results: "
            "adding seeds until something is found raises false alarms."
        )


def _seed_plan(results: Results, key: CellKey) -> SeedPlan | None:
    comparison = results.comparison(key)
    assert comparison is not None
    change = comparison.changes[HEADLINE_METRIC]
    return plan_seeds(change, results.detect or 1.0, tests=comparison.family)


def _price(results: Results, model: str, more_seeds: int) -> str:
    """What so many more seeds of all of a model's cells cost."""
    cells = results.of(model)
    seconds = [
        float(run.metrics["seconds"])
        for key in cells
        for run in results.runs[key].values()
        if "seconds" in run.metrics
    ]
    if not seconds:
        return ""
    total_s = more_seeds * len(cells) * sum(seconds) / len(seconds)
    shown = f"{total_s:.0f} seconds" if total_s < 120 else f"{total_s / 60:.0f} minutes"
    return f": {counted(more_seeds * len(cells), 'more run')}, about {shown} one after the other"

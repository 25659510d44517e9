"""Curves: macro F1 over the synthetic ratio with what it shows, and calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.metrics import METRICS
from trainer.analysis.results import Results
from trainer.analysis.statistics.trends import Trend
from trainer.report.html import picture, section, text
from trainer.report.plots import Curve, Reliability, curve_svg, reliability_svg
from trainer.report.wording import (
    BUDGET_SHORT,
    added_per_class,
    arm_title,
    interval,
    model_title,
    p_value,
    point_count,
    points,
)

_BINS = 10
_SHAPES = {
    "falls": "falls",
    "still rises": "still rises at the largest ratio",
    "unclear": "no clear trend",
}


def curve_section(results: Results) -> str:
    """Macro F1 over the ratio of added synthetic images, and each curve's best ratio."""
    curves = list(_curves(results, HEADLINE_METRIC))
    if not curves:
        return ""
    title = METRICS[HEADLINE_METRIC]
    figure = picture(curve_svg(curves, label=title), "svg+xml", f"{title} over the synthetic ratio")
    note = (
        "Means with 95% intervals. Solid lines: same number of optimiser updates; dashed: same "
        "number of epochs. Slopes are corrected (Holm) as a family of their own, steps as "
        "another. The best ratio may be any of those that are not significantly worse than the "
        "one with the highest mean."
    )
    return section(
        "Macro F1 over the synthetic ratio", _gallery([figure]), _trend_list(results), note=note
    )


def _gallery(figures: list[str]) -> str:
    return f'<div class="curves">{"".join(figures)}</div>' if figures else ""


def _curves(results: Results, metric: str) -> Iterator[Curve]:
    several = len(results.grid.info.get("sources", {})) > 1
    for number, model in enumerate(results.models):
        rows: dict[tuple[str, str], list[CellKey]] = {}
        for key in results.of(model):
            if key.regime == "add":
                rows.setdefault((key.source, key.budget), []).append(key)
        for source, budget in rows:
            keys = [
                results.baseline(model),
                *sorted(rows[source, budget], key=lambda key: key.ratio),
            ]
            keys = [key for key in keys if metric in results.metrics.get(key, {})]
            if len(keys) < 2:
                continue
            title = _short_title(results, model) + f", {source}" * several
            sources = list(dict.fromkeys(source for source, _ in rows))
            yield Curve(
                title,
                [key.ratio for key in keys],
                [results.metrics[key][metric] for key in keys],
                colour=number * len(sources) + sources.index(source),
                dashed=budget == "epochs",
            )


def _short_title(results: Results, model: str) -> str:
    return model_title(results.grid, model).replace(
        " (frozen) - untrained backbone", ", untrained backbone"
    )


def _trend_list(results: Results) -> str:
    items = []
    for trend in results.verdicts.trends:
        title = model_title(results.grid, trend.model)
        where = f"{title}, {trend.source}, {BUDGET_SHORT[trend.budget]}"
        items.append(
            f"<li>{text(where)}: <b>{text(shape_words(trend))}</b>. {text(best_words(trend))} "
            f"{text(end_words(results, trend))}Slope: {points(trend.slope.value)} points for each "
            f"additional synthetic image per real one ({text(interval(trend.slope))}, "
            f"{text(p_value(trend.p_slope))}).</li>"
        )
    return f'<ul class="method">{"".join(items)}</ul>' if items else ""


def shape_words(trend: Trend) -> str:
    """The curve in a few words: does more help, and up to where."""
    if trend.shape == "levels off" and trend.enough is not None:
        return f"rises, then levels off: no more is needed than ratio {_at(trend, trend.enough)}"
    if trend.shape != "rises":
        return _SHAPES[trend.shape]
    if not trend.rises_to:
        return "rises; cannot tell where it levels off"
    if trend.beyond is None:
        return f"rises up to the largest ratio, {_at(trend, trend.rises_to)}"
    return (
        f"rises at least to ratio {_at(trend, trend.rises_to)}; cannot tell whether it levels off "
        "there"
    )


def _at(trend: Trend, place: int) -> str:
    return f"{trend.amounts[place]:g}"


def best_words(trend: Trend) -> str:
    """Which ratio is best, and which others may be."""
    best = trend.amounts[trend.best]
    change = trend.changes[trend.best - 1] if trend.best else None
    amount = "" if change is None else f" ({points(change.value)} points, {interval(change)})"
    others = [trend.amounts[place] for place in trend.plausible if place != trend.best]
    if not others:
        return f"Best: {_ratio(best)}{amount}, better than every other ratio."
    listed = ", ".join(map(_ratio, others))
    return f"Best: {_ratio(best)}{amount}; not significantly worse: {listed}."


def _ratio(amount: float) -> str:
    return f"ratio {amount:g}" if amount else "real only"


def end_words(results: Results, trend: Trend) -> str:
    """ "More than 30 images per class add less than 1 point. ", or what a larger amount adds to the
    one that the curve rises to."""
    if trend.enough is None:
        if trend.shape != "rises" or trend.beyond is None or trend.beyond_to is None:
            return ""
        return (
            f"From ratio {_at(trend, trend.rises_to)} to {_at(trend, trend.beyond_to)}: "
            f"{points(trend.beyond.value)} points ({interval(trend.beyond)}). "
        )
    images = added_per_class(results.grid, trend.amounts[trend.enough])
    return (
        f"More than {images} synthetic images per class add less than "
        f"{point_count(trend.meaningful)} (95% confidence). "
    )


def calibration_section(results: Results) -> str:
    """How often a model is right where it claims a probability: real only beside the headline
    cells."""
    figures = []
    for model in results.models:
        keys = [results.baseline(model), *results.headlines(model)]
        lines = [
            Reliability(arm_title(results.grid, key), *reliability(results, key))
            for key in keys
            if results.confidence.get(key)
        ]
        if lines:
            title = model_title(results.grid, model)
            figures.append(
                picture(reliability_svg(lines, label=title), "svg+xml", f"calibration of {title}")
            )
    note = (
        "Share of right answers over the probability that the model gave its answer, in bins of a "
        "tenth, all seeds together; on the dotted line a model means what it says, below it is too "
        "sure of itself. Bins of fewer than 10 answers are left out."
    )
    return section("Calibration", _gallery(figures), note=note)


def reliability(results: Results, key: CellKey) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability and share of right answers of each bin with at least 10 answers: both
    [bins]."""
    runs = results.confidence[key]
    sure = np.concatenate([runs[seed] for seed in sorted(runs)])
    right = np.concatenate([results.predicted[key][seed] == results.true for seed in sorted(runs)])
    bins = np.clip((sure * _BINS).astype(int), 0, _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    kept = count >= 10
    shares = [np.bincount(bins, weights=each, minlength=_BINS)[kept] for each in (sure, right)]
    return shares[0] / count[kept], shares[1] / count[kept]

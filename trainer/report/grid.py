"""The grid itself: every cell compared with real only, metrics over the ratio, all metrics."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.analysis.comparisons import HEADLINE_METRIC, CellKey, Comparison
from trainer.analysis.results import TITLES, Results
from trainer.analysis.stats import Estimate
from trainer.arms import SHARED_BUDGET
from trainer.report.html import group_row, picture, section, table, text
from trainer.report.plots import Curve, curve_svg
from trainer.report.wording import (
    BUDGET_SHORT,
    BUDGET_TITLES,
    VERDICTS,
    arm_title,
    budget_note,
    interval,
    margin,
    metric_value,
    model_title,
    p_value,
    points,
)

_COLUMNS = 5


def grid_section(results: Results) -> str:
    """Every cell by model and budget, with its change from real only."""
    head = (
        '<tr><th>Trained on</th><th class="wide">Accuracy</th><th>Macro F1</th>'
        "<th>Change in macro F1, points</th><th>Corrected</th></tr>"
    )
    return section(
        "The grid", table(head, _grid_rows(results), kind="grid"), note=_grid_note(results)
    )


def _grid_rows(results: Results) -> Iterator[str]:
    for model in results.models:
        yield group_row(model_name(results, model), columns=_COLUMNS)
        scale = _Scale(results, model)
        for budget in (SHARED_BUDGET, *(each for each in BUDGET_TITLES if each != SHARED_BUDGET)):
            keys = [key for key in results.of(model) if key.budget == budget]
            if keys and budget != SHARED_BUDGET:
                yield group_row(text(BUDGET_TITLES[budget]), columns=_COLUMNS, kind="subgroup")
            yield from (_grid_row(results, key, scale) for key in keys)


def model_name(results: Results, model: str) -> str:
    """A model's title as HTML; an untrained backbone is tagged."""
    entry = results.grid.info["models"][model]
    tag = ' <span class="tag">untrained backbone</span>' if entry["weights"] == "untrained" else ""
    return f"{text(entry['title'])}{tag}"


def _grid_row(results: Results, key: CellKey, scale: _Scale) -> str:
    name = f'{text(arm_title(results.grid, key))} <span class="spread wide">{text(key.arm)}</span>'
    found = results.metrics.get(key)
    if not found:
        failed = any(
            (run.model, run.arm, run.budget) == (key.model, key.arm, key.budget)
            for run in results.grid.failed()
        )
        state = "failed" if failed else "not trained yet"
        return f'<tr><td>{name}</td><td class="missing" colspan="{_COLUMNS - 1}">{state}</td></tr>'
    scores = f'<td class="wide">{_score("accuracy", found["accuracy"])}</td>'
    scores += f"<td>{_score(HEADLINE_METRIC, found[HEADLINE_METRIC])}</td>"
    comparison = results.comparison(key)
    if comparison is None:
        reference = "the reference" if key.is_baseline else "no real-only run to compare with"
        note = f'<td class="missing" colspan="{_COLUMNS - 3}">{reference}</td>'
        return f"<tr><td>{name}</td>{scores}{note}</tr>"
    return f"<tr><td>{name}</td>{scores}{_change(comparison, scale)}</tr>"


def _score(metric: str, estimate: Estimate) -> str:
    value = metric_value(metric, estimate.value)
    return f'<b>{value}</b> <span class="spread sd">{margin(metric, estimate)}</span>'


def _change(comparison: Comparison, scale: _Scale) -> str:
    change = comparison.changes[HEADLINE_METRIC]
    label = f'<span class="verdict {comparison.verdict}">{VERDICTS[comparison.verdict]}</span>'
    bounds = interval(change).removeprefix("95% CI ")
    corrected = f"{text(p_value(comparison.p_holm))}<br>" if comparison.p_holm is not None else ""
    return (
        f'<td><b>{points(change.value)}</b> <span class="spread">{text(bounds)}</span>'
        f"{scale.bar(change, comparison.verdict)}</td><td>{corrected}{label}</td>"
    )


class _Scale:
    """One axis for all changes of a model, drawn as a bar under each."""

    def __init__(self, results: Results, model: str) -> None:
        found = (results.comparison(key) for key in results.of(model))
        changes = [each.changes[HEADLINE_METRIC] for each in found if each]
        ends = [
            end for each in changes for end in (each.value, each.low, each.high) if end is not None
        ]
        self.low, self.high = min([0.0, *ends]), max([0.0, *ends])
        self.span = max(self.high - self.low, 1e-9)

    def _at(self, value: float) -> float:
        return 100 * (value - self.low) / self.span

    def bar(self, change: Estimate, verdict: str) -> str:
        """The interval as a bar, the value as a dot, and a line at 0."""
        low, high = (change.value if end is None else end for end in (change.low, change.high))
        return (
            f'<div class="axis {verdict}"><i style="left:{self._at(0):.1f}%"></i>'
            f'<b style="left:{self._at(low):.1f}%;width:{self._at(high) - self._at(low):.1f}%"></b>'
            f'<u style="left:{self._at(change.value):.1f}%"></u></div>'
        )


def _grid_note(results: Results) -> str:
    count = len(results.verdicts.comparisons)
    notes = [
        "Percent on the test images, ± half the width of a 95% interval over seeds and test "
        "images. Changes are paired with real only by seed and test image. Their intervals are "
        f"not corrected; p-values are corrected (Holm) for all {count} comparisons of this grid, "
        "and verdicts follow the corrected p-values.",
    ]
    if len(set(results.grid.info["images_per_class"]["test"])) == 1:
        notes.append("The test set is balanced, so macro recall equals accuracy; read macro F1.")
    return " ".join(notes)


def curve_section(results: Results) -> str:
    """Each metric over the ratio of added synthetic images."""
    figures = []
    for metric, title in results.titles.items():
        if metric.startswith("weighted"):
            continue
        curves = list(_curves(results, metric))
        if curves:
            unit = "nats" if metric == "nll" else "percent"
            svg = curve_svg(curves, label=title, unit=unit)
            figures.append(picture(svg, "svg+xml", f"{title} over the synthetic ratio"))
    note = (
        "Means with 95% intervals. Solid lines: same number of optimiser updates; dashed: same "
        "number of epochs. For calibration error and negative log-likelihood lower is better; "
        "their intervals are over seeds only."
    )
    return section(
        "Each metric over the synthetic ratio", _gallery(figures), _trend_list(results), note=note
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
        verdict = (
            "no clear trend"
            if trend.p_slope is None or trend.p_slope > 0.05
            else "falls"
            if trend.falls
            else "rises"
        )
        title = model_title(results.grid, trend.model)
        where = f"{title}, {trend.source}, {BUDGET_SHORT[trend.budget]}"
        items.append(
            f"<li>{text(where)}: {points(trend.slope.value)} points of macro F1 for each "
            f"additional synthetic image per real one ({text(interval(trend.slope))}, "
            f"{text(p_value(trend.p_slope))}): <b>{verdict}</b></li>"
        )
    return f'<h3>Trend over the ratio</h3><ul class="method">{"".join(items)}</ul>' if items else ""


def metric_section(results: Results) -> str:
    """Every metric of every cell."""
    titles = "".join(f"<th>{text(title)}</th>" for title in results.titles.values())
    rows = []
    for model in results.models:
        rows.append(group_row(model_name(results, model), columns=len(results.titles) + 2))
        rows += [
            f"<tr><td>{text(arm_title(results.grid, key) + budget_note(key))}</td>"
            + "".join(
                f"<td>{_score(metric, found[metric]) if metric in found else ''}</td>"
                for metric in results.titles
            )
            + f"<td>{_votes(results.comparison(key))}</td></tr>"
            for key in results.of(model)
            if (found := results.metrics.get(key))
        ]
    note = (
        f"Mean over seeds, ± half the width of a 95% interval, in percent; {TITLES['nll'].lower()} "
        "in nats. Votes: test images that the majority of seeds classifies correctly only with "
        "this arm (won) or only without it (lost), with McNemar's exact p-value, uncorrected."
    )
    head = f"<tr><th>Cell</th>{titles}<th>Votes won : lost</th></tr>"
    return section(
        "All metrics", table(head, rows, kind="grid metrics") if results.titles else "", note=note
    )


def _votes(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    votes = comparison.mcnemar
    return f'{votes.won} : {votes.lost} <span class="spread sd">{text(p_value(votes.p))}</span>'

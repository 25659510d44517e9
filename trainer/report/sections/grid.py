"""The grid itself: every cell compared with real only, metrics over the ratio, all metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.comparisons import Comparison, Duel
from trainer.analysis.results import TITLES, Results
from trainer.analysis.statistics.stats import Estimate
from trainer.arms import SHARED_BUDGET
from trainer.report.html import group_row, section, table, text
from trainer.report.wording import (
    BUDGET_TITLES,
    arm_title,
    budget_note,
    counted,
    interval,
    margin,
    metric_value,
    p_value,
    percent,
    point_count,
    points,
    scope,
    verdict,
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
        scale = Scale([results.comparison(key) for key in results.of(model)])
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


def _grid_row(results: Results, key: CellKey, scale: Scale) -> str:
    name = f'{text(arm_title(results.grid, key))} <span class="spread wide">{text(key.arm)}</span>'
    found = results.metrics.get(key)
    if not found:
        failed = any(
            (run.model, run.arm, run.budget) == (key.model, key.arm, key.budget)
            for run in results.grid.failed()
        )
        state = "failed" if failed else "not trained yet"
        return f'<tr><td>{name}</td><td class="missing" colspan="{_COLUMNS - 1}">{state}</td></tr>'
    scores = f'<td class="wide">{score_cell("accuracy", found["accuracy"])}</td>'
    scores += f"<td>{score_cell(HEADLINE_METRIC, found[HEADLINE_METRIC])}</td>"
    comparison = results.comparison(key)
    if comparison is None:
        reference = "the reference" if key.is_baseline else "no real-only run to compare with"
        note = f'<td class="missing" colspan="{_COLUMNS - 3}">{reference}</td>'
        return f"<tr><td>{name}</td>{scores}{note}</tr>"
    return f"<tr><td>{name}</td>{scores}{change_cells(comparison, scale)}</tr>"


def score_cell(metric: str, estimate: Estimate) -> str:
    """A metric with its margin, as HTML."""
    value = metric_value(metric, estimate.value)
    return f'<b>{value}</b> <span class="spread sd">{margin(metric, estimate)}</span>'


def change_cells(comparison: Comparison, scale: Scale) -> str:
    """A comparison's change, p-value and verdict: two cells of a table."""
    change = comparison.changes[HEADLINE_METRIC]
    label = f'<span class="verdict {comparison.verdict}">{text(verdict(comparison))}</span>'
    bounds = interval(change).removeprefix("95% CI ")
    family = " <b>headline</b>" if comparison.is_headline else ""
    corrected = (
        f"{text(p_value(comparison.p_holm))}{family}<br>" if comparison.p_holm is not None else ""
    )
    return (
        f'<td><b>{points(change.value)}</b> <span class="spread">{text(bounds)}</span>'
        f"{scale.bar(change, comparison.verdict)}</td><td>{corrected}{label}</td>"
    )


class Scale:
    """One axis for the changes of several comparisons, drawn as a bar under each."""

    def __init__(self, comparisons: Sequence[Comparison | None]) -> None:
        changes = [each.changes[HEADLINE_METRIC] for each in comparisons if each]
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
    headlines, rest = results.families
    notes = [
        "Percent on the test images, ± half the width of a 95% interval over seeds and test "
        f"images, {scope(results.grid)}. Changes are paired with real only by seed and test "
        "image; their intervals are not corrected. p-values are corrected (Holm) in two families: "
        f"{counted(headlines, 'headline comparison')}, which the plan fixed before training (the "
        "largest amount of each model and source), and "
        f"{counted(rest, 'exploratory comparison')}. Verdicts follow the corrected "
        f"p-values; “no change larger than {point_count(results.meaningful)}” is found by two "
        "one-sided tests.",
    ]
    notes += [_run_spread(results)]
    if len(set(results.test_images)) == 1:
        notes.append("The test set is balanced, so macro recall equals accuracy; read macro F1.")
    return " ".join(note for note in notes if note)


def _run_spread(results: Results) -> str:
    """The measured standard deviation of runs, of each model."""
    found = [
        f"{percent(results.verdicts.run_sd[model, HEADLINE_METRIC])} points ({model})"
        for model in results.models
        if (model, HEADLINE_METRIC) in results.verdicts.run_sd
    ]
    if not found:
        return ""
    return (
        "Standard deviation of a run's macro F1 between seeds, pooled over cells: "
        f"{', '.join(found)}."
    )


def duel_section(results: Results) -> str:
    """Cells compared with each other instead of with real only: see `changes_of`."""
    rows = []
    for model in results.models:
        duels = [duel for duel in results.verdicts.duels if duel.key.model == model]
        if duels:
            rows.append(group_row(model_name(results, model), columns=_COLUMNS - 1))
        rows += [_duel_row(results, duel) for duel in duels]
    head = (
        "<tr><th>Trained on</th><th>Compared with</th>"
        "<th>Difference in macro F1, points</th><th>Corrected</th></tr>"
    )
    note = (
        "What synthetic images give beyond augmentation, copies or additional real images, and on "
        "top of augmentation; what another source gives beyond the first, a selection beyond as "
        "many images at random, auxiliary batch normalisation beyond the same batches and loss "
        "without it, and these, or an end on real images, beyond the plain arm. All of this is "
        "exploratory: p-values are corrected together with those of the grid's exploratory "
        "comparisons."
    )
    return section("Compared directly", table(head, rows, kind="grid") if rows else "", note=note)


def _duel_row(results: Results, duel: Duel) -> str:
    marked = duel.verdict if duel.verdict in ("better", "worse") else ""
    bounds = text(interval(duel.change).removeprefix("95% CI "))
    return (
        f"<tr><td>{text(arm_title(results.grid, duel.key) + budget_note(duel.key))}</td>"
        f"<td>{text(arm_title(results.grid, duel.rival))}</td>"
        f'<td><b>{points(duel.change.value)}</b> <span class="spread">{bounds}</span></td>'
        f"<td>{text(p_value(duel.p_holm))}<br>"
        f'<span class="verdict {marked}">{text(verdict(duel))}</span></td></tr>'
    )


def metric_section(results: Results) -> str:
    """Every metric of every cell."""
    titles = "".join(f"<th>{text(title)}</th>" for title in results.titles.values())
    rows = []
    for model in results.models:
        rows.append(group_row(model_name(results, model), columns=len(results.titles) + 2))
        rows += [
            f"<tr><td>{text(arm_title(results.grid, key) + budget_note(key))}</td>"
            + "".join(
                f"<td>{score_cell(metric, found[metric]) if metric in found else ''}</td>"
                for metric in results.titles
            )
            + f"<td>{_votes(results, key)}</td></tr>"
            for key in results.of(model)
            if (found := results.metrics.get(key))
        ]
    note = (
        f"Mean over seeds, ± half the width of a 95% interval, in percent; {TITLES['nll'].lower()} "
        "in nats. Votes: test images that the majority of seeds classifies correctly only with "
        "this arm (won) or only without it (lost). No test is based on them, since they ignore "
        "what other seeds would have done."
    )
    head = f"<tr><th>Cell</th>{titles}<th>Votes won : lost</th></tr>"
    return section(
        "All metrics", table(head, rows, kind="grid metrics") if results.titles else "", note=note
    )


def _votes(results: Results, key: CellKey) -> str:
    comparison = results.comparison(key)
    if comparison is None or results.overlap is not None:  # no image is tested by all seeds
        return ""
    return f"{comparison.votes.won} : {comparison.votes.lost}"

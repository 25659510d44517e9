"""Several test sets beside each other: what real only scores on each, and what synthetic images
change."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.results import Results
from trainer.report.html import group_row, section, table, text
from trainer.report.sections.grid import Scale, change_cells, model_name, score_cell
from trainer.report.wording import OWN_TEST, arm_title, budget_note

_COLUMNS = 6


def sets_section(results: Results) -> str:
    """For each headline cell its change from real only on every test set; "" if there is one."""
    if len(results.tests) == 1:
        return ""
    head = (
        "<tr><th>Test set</th><th>Images</th><th>Macro F1, real only</th><th>Macro F1</th>"
        "<th>Change, points</th><th>Corrected</th></tr>"
    )
    rows = [row for model in results.models for row in _model_rows(results, model)]
    note = (
        "All runs are tested on each set; none of its images is trained on or chooses anything. "
        "p-values are corrected for all test sets together."
    )
    return section("Test sets", table(head, rows, kind="grid"), note=note)


def _model_rows(results: Results, model: str) -> Iterator[str]:
    for key in results.headlines(model):
        cell = text(arm_title(results.grid, key) + budget_note(key))
        yield group_row(f"{model_name(results, model)}: {cell}", columns=_COLUMNS)
        scale = Scale([each.comparison(key) for each in results.on_each])
        yield from (_row(each, key, scale) for each in results.on_each)


def _row(results: Results, key: CellKey, scale: Scale) -> str:
    comparison, baseline = results.comparison(key), results.baseline(key.model)
    start = f"<tr><td>{text(results.test or OWN_TEST)}</td><td>{sum(results.test_images)}</td>"
    if comparison is None:
        return f'{start}<td class="missing" colspan="{_COLUMNS - 2}">not trained yet</td></tr>'
    scores = "".join(
        f"<td>{score_cell(HEADLINE_METRIC, results.metrics[each][HEADLINE_METRIC])}</td>"
        for each in (baseline, key)
    )
    return f"{start}{scores}{change_cells(comparison, scale)}</tr>"

"""From a grid's folder to results.csv, results.json and a self-contained report.html. No torch.

No script, no external request: pictures are data URIs, the style is inline. A section is a function
that returns HTML; trainer.analysis.results has the numbers, answers.py and cautions.py the
sentences, tables.py the tables to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainer.analysis.files import results_csv, results_json
from trainer.analysis.results import Results, results_of
from trainer.report.html import document, folded
from trainer.report.sections.answers import answers, controls, plans, short_verdicts
from trainer.report.sections.cautions import warnings
from trainer.report.sections.classes import class_section, confusion_section
from trainer.report.sections.curves import calibration_section, curve_section
from trainer.report.sections.grid import duel_section, grid_section, metric_section
from trainer.report.sections.header import header
from trainer.report.sections.models import model_section
from trainer.report.sections.pictures import mistake_section, sample_section
from trainer.report.sections.provenance import (
    copy_section,
    leak_section,
    method_section,
    provenance_section,
)
from trainer.report.sections.sets import sets_section
from trainer.report.sections.tables import latex_table, markdown_table, text_table
from trainer.runs import read_grid, to_json, write_file

_Section = Callable[[Results], str]
REPORT_FILE, RESULTS_FILE, JSON_FILE = "report.html", "results.csv", "results.json"


def write_report(
    root: Path, *, meaningful: float | None = None, detect: float | None = None
) -> Path:
    """Writes results.csv, results.json and report.html into the grid's folder and returns the
    report's path. `meaningful` is the smallest change of interest, by default the grid's; `detect`
    a change for which seeds are planned; both are shares.

    Raises:
        ReportError: the folder holds no grid, or one that is damaged or cannot be written.
    """
    results = results_of(read_grid(root), meaningful=meaningful, detect=detect)
    page = report_html(results)
    write_file(root / RESULTS_FILE, results_csv(results.grid))
    write_file(root / JSON_FILE, to_json(report_json(results)))
    write_file(root / REPORT_FILE, page.encode("utf-8", errors="xmlcharrefreplace"))
    return root / REPORT_FILE


def report_json(results: Results) -> dict[str, object]:
    """What the report says, for a script: sentences, warnings, tables as text, and all numbers."""
    return {
        "short_verdicts": short_verdicts(results),
        "answers": answers(results),
        "positive_controls": controls(results),
        "plans": plans(results),
        "warnings": warnings(results),
        **results_json(results),
        "tables": {
            "text": text_table(results),
            "markdown": markdown_table(results),
            "latex": latex_table(results),
        },
    }


def report_html(results: Results) -> str:
    """The whole page."""
    numbers = (
        grid_section,
        duel_section,
        model_section,
        curve_section,
        calibration_section,
        class_section,
        confusion_section,
    )
    sections: tuple[_Section, ...] = (
        header,
        sets_section,
        *numbers,
        mistake_section,
        sample_section,
        metric_section,
        *(partial(_further, test, (*numbers, metric_section)) for test in results.tests if test),
        leak_section,
        method_section,
        copy_section,
        provenance_section,
    )
    name = results.grid.root.resolve().name
    return document(f"SynthGrid: {name}", "".join(each(results) for each in sections))


def _further(test: str, sections: Sequence[_Section], results: Results) -> str:
    """The sections on a further test set, folded away."""
    on_it = results.on(test)
    return folded(f"All of it on the test set “{test}”", *(each(on_it) for each in sections))

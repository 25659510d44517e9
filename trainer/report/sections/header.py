"""The top of the page: the answer, the warnings, and the size of the experiment."""

from __future__ import annotations

from trainer.analysis.results import Results
from trainer.report.html import text
from trainer.report.sections.answers import answers, controls, plans, short_verdicts
from trainer.report.sections.cautions import warnings
from trainer.report.wording import per_class

_SHOWN_WARNINGS = 8


def header(results: Results) -> str:
    """Verdicts, sentences, warnings, and four facts."""
    grid = results.grid
    short = "".join(f"<p class='short'>{text(each)}</p>" for each in short_verdicts(results))
    sentences = "".join(
        f"<p>{text(sentence)}</p>"
        for sentence in (*answers(results), *controls(results), *plans(results))
    )
    facts = {
        "classes": str(len(results.classes)),
        "real images per class": per_class(grid, "train"),
        "test images": str(sum(grid.info["images_per_class"]["test"])),
        "runs": f"{sum(run.status == 'done' for run in grid.runs)} of {len(grid.runs)}",
    }
    tiles = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items()
    )
    return (
        f'<header><p class="kicker">SynthGrid report · {text(grid.root.resolve().name)}</p>'
        "<h1>Do synthetic images help?</h1>"
        f'<div class="answer">{short}{sentences}</div>{_alerts(results)}'
        f'<dl class="facts">{tiles}</dl></header>'
    )


def _alerts(results: Results) -> str:
    found = [f"<li>{text(each)}</li>" for each in warnings(results)]
    if not found:
        return ""
    shown = f'<ul class="alerts">{"".join(found[:_SHOWN_WARNINGS])}</ul>'
    if len(found) <= _SHOWN_WARNINGS:
        return shown
    rest = "".join(found[_SHOWN_WARNINGS:])
    more = len(found) - _SHOWN_WARNINGS
    hidden = f'<summary>{more} more warnings</summary><ul class="alerts">{rest}</ul>'
    return f"{shown}<details>{hidden}</details>"

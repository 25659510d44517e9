"""The page of `meanings`: for each class what was chosen, and the images that speak most for it and
most for the runner-up. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.quality.meanings.resolve import Resolved
from trainer.report.html import document, section, table, text
from trainer.report.sections.pictures import thumbnail
from trainer.runs import write_file

_TITLE = "SynthGrid meanings"
_SHOWN = 8  # images for the best meaning, and as many for the next


def write_meanings_page(path: Path, results: list[Resolved]) -> None:
    """Writes the page. Raises ReportError if it cannot be written."""
    head = (
        "<tr><th>Class</th><th>Meaning</th><th>Score</th><th>Runner-up</th><th>Margin</th>"
        "<th>Images that agree</th></tr>"
    )
    summary = section(
        "What the images show", table(head, map(_row, results), kind="grid"), note=_NOTE
    )
    page = document(_TITLE, summary + "".join(map(_images, results)))
    write_file(path, page.encode("utf-8", errors="xmlcharrefreplace"))


def is_meanings_page(path: Path) -> bool:
    """Whether a file is such a page, which a newer one may replace."""
    try:
        with path.open("rb") as file:
            return f"<title>{_TITLE}</title>".encode() in file.read(_HEAD)
    except OSError:
        return False


_HEAD = 4096  # bytes of a page, which its title is among
_NOTE = (
    "Scores are means over a class's real images; margins have 95% bootstrap intervals over "
    "images. A meaning is chosen if the interval excludes 0 and more than three quarters of the "
    "images agree, at 95%. A definition that a person wrote stays."
)


def _row(found: Resolved) -> str:
    cells = [found.label, found.best or found.outcome, "", found.runner_up, "", ""]
    if found.decision is not None:
        decision = found.decision
        cells[2] = f"{decision.score:.3f}"
        if decision.runner_up >= 0:
            cells[4] = f"{decision.margin:.3f} ({decision.low:.3f} to {decision.high:.3f})"
            cells[5] = f"{decision.share:.0%} of {decision.images}"
    label, *rest = (text(each) for each in cells)
    verdict = f'<br><span class="verdict">{text(found.outcome)}</span>'
    rest[0] = f'<span style="white-space:normal">{rest[0]}</span>{verdict}'
    rest[2] = f'<span style="white-space:normal">{rest[2]}</span>'
    return f"<tr><th scope='row'>{label}</th>{''.join(f'<td>{each}</td>' for each in rest)}</tr>"


def _images(found: Resolved) -> str:
    if found.decision is None or found.scores is None:
        return ""
    decision = found.decision
    order = found.scores[:, decision.best].copy()
    if decision.runner_up >= 0:
        order -= found.scores[:, decision.runner_up]
    rows = np.argsort(-order, kind="stable").tolist()
    parts = [f"<h3>Most for: {text(found.best)}</h3>{_tiles(found, rows[:_SHOWN])}"]
    if found.runner_up:
        last = rows[: -_SHOWN - 1 : -1]
        parts.append(f"<h3>Most for: {text(found.runner_up)}</h3>{_tiles(found, last)}")
    return section(found.label, *parts)


def _tiles(found: Resolved, rows: list[int]) -> str:
    samples = [found.samples[row] for row in rows]
    return " ".join(thumbnail(each.path, each.file) for each in samples)

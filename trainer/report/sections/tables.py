"""The grid as a table of plain text, Markdown or LaTeX: one line per cell, percent."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.results import Results
from trainer.report.wording import (
    BUDGET_SHORT,
    OWN_TEST,
    arm_title,
    interval,
    margin,
    model_title,
    p_value,
    percent,
    points,
    verdict,
)

_HEADER = (
    "Model",
    "Trained on",
    "Budget",
    "Accuracy",
    "Macro F1",
    "Change in F1",
    "95% CI",
    "p (Holm)",
    "Family",
    "Verdict",
)
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "<": r"$<$",
    ">": r"$>$",
}


def text_table(results: Results) -> str:
    """For a terminal, columns aligned."""
    rows = [_header(results), *_rows(results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(results: Results) -> str:
    """For a README or an issue."""
    rows = [" | ".join(part.replace("|", "\\|") for part in row) for row in _rows(results)]
    header = _header(results)
    names = header.index("Accuracy")
    rule = "|".join("---" if column < names else "---:" for column in range(len(header)))
    return "\n".join([f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {row} |" for row in rows)])


def latex_table(results: Results) -> str:
    """For a paper; needs the package booktabs."""
    rows = [" & ".join(map(_latex, row)) + r" \\" for row in _rows(results)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{_several(results) * 'l'}lllrrrrrll}}",
            r"\toprule",
            " & ".join(map(_latex, _header(results))) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _several(results: Results) -> bool:
    return len(results.tests) > 1


def _header(results: Results) -> Sequence[str]:
    return ("Test set", *_HEADER) if _several(results) else _HEADER


def _rows(results: Results) -> list[Sequence[str]]:
    """One row per cell, of each test set where there are several."""
    if not _several(results):
        return [_row(results, key) for key in results.keys]
    return [
        (each.test or OWN_TEST, *_row(each, key))
        for each in results.on_each
        for key in results.keys
    ]


def _row(results: Results, key: CellKey) -> Sequence[str]:
    name = (
        model_title(results.grid, key.model),
        arm_title(results.grid, key),
        BUDGET_SHORT[key.budget] or "either",
    )
    found, comparison = results.metrics.get(key), results.comparison(key)
    if not found:
        failed = any(
            (run.model, run.arm, run.budget) == (key.model, key.arm, key.budget)
            for run in results.grid.failed()
        )
        return (*name, "", "", "", "", "", "", "failed" if failed else "not trained yet")
    scores = [
        f"{percent(found[metric].value)} {margin(metric, found[metric])}".strip()
        for metric in ("accuracy", HEADLINE_METRIC)
    ]
    if comparison is None:
        return (*name, *scores, "", "", "", "", "")
    change = comparison.changes[HEADLINE_METRIC]
    p = (
        p_value(comparison.p_holm).removeprefix("p = ").removeprefix("p ")
        if comparison.p_holm is not None
        else ""
    )
    return (
        *name,
        *scores,
        points(change.value),
        interval(change).removeprefix("95% CI "),
        p,
        "headline" if comparison.is_headline else "exploratory",
        verdict(comparison),
    )


def _latex(part: str) -> str:
    return "".join(_LATEX_SPECIAL.get(letter, letter) for letter in part)

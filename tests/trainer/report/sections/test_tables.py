"""The grid as a table in plain text, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.analysis.results import Results, results_of
from trainer.report.sections.tables import latex_table, markdown_table, text_table
from trainer.runs import read_grid

BASE = {"real/both": [0.50] * 4}


@pytest.fixture
def results(tmp_path: Path, make_grid: Callable[..., Path]) -> Callable[..., Results]:
    """The results of a grid that is written with these shares of right answers."""

    def make(right: dict[str, list[float | None]], **options: Any) -> Results:
        return results_of(read_grid(make_grid(tmp_path / "grid", right, **options)))

    return make


def test_tables_have_one_line_per_cell_in_three_notations(results: Callable) -> None:
    found = results({**BASE, "swap:0.5/both": [0.9] * 4, "add:1/updates": [None] * 4})
    lines = text_table(found).splitlines()
    assert len(lines) == 2 + 3
    assert "50% of real replaced by synthetic" in lines[3]
    assert lines[3].endswith("helps")
    assert "exploratory" in lines[3]
    assert lines[4].endswith("not trained yet")
    assert len({line.count("|") for line in markdown_table(found).splitlines()}) == 1
    latex = latex_table(found)
    assert r"50\% of real replaced by synthetic" in latex
    assert latex.count(r"\\") == 1 + 3
    assert latex.count("&") == 9 * 4

"""Each model stands beside what it costs in use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from trainer.analysis.results import results_of
from trainer.report.page import report_html
from trainer.report.sections.models import model_section
from trainer.runs import read_grid

COST = {
    "parameters": 3_380_000,
    "multiply_adds": 384_000_000,
    "ms_alone": 56.1,
    "ms_in_batch": 7.77,
    "batch": 16,
    "image_size_px": 224,
    "classes": 10,
    "device": "cpu (1 thread)",
}


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


def test_a_row_for_each_model_has_its_scores_and_its_cost(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    cells = {"real/both": [0.5] * 4, "add:1/updates": [0.9] * 4, "vit/real/both": [0.7] * 4}
    found = results_of(read_grid(make_grid(tmp_path, cells, models=("cnn", "vit"))))
    assert model_section(found) == ""
    found.grid.info["models"]["vit"]["cost"] = COST
    cnn, vit = (plain(row) for row in model_section(found).split("<tr>")[2:])
    assert re.match(
        r" *Small CNN \d\d\.\d ±\d\.\d real only \d\d\.\d ±\d\.\d real \+ 30 synthetic", cnn
    )
    assert re.search(r"vit \d\d\.\d ±\d\.\d real only 3\.38 M 0\.384 G 56\.1 7\.77 .*cpu", vit)
    page = report_html(found)
    assert page.index("The grid") < page.index("what they cost in use") < page.index("Calibration")

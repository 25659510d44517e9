"""The class tables: head, middle and tail stand apart where classes differ in their real images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.report import write_report


@pytest.mark.parametrize(("train", "shown"), [([90, 30, 10], True), ([30, 30, 30], False)])
def test_head_and_tail_are_told_apart_where_real_images_differ(
    make_grid: Callable[..., Path], tmp_path: Path, train: list[int], shown: bool
) -> None:
    grid = make_grid(
        tmp_path,
        {"real/both": [0.5] * 5, "add:1/updates": [0.8] * 5},
        images_per_class={
            "train": train,
            "test": [100] * 3,
            "synthetic": [60] * 3,
            "more": [0] * 3,
        },
    )
    page = write_report(grid).read_text(encoding="utf-8")
    assert ("<th scope='row'>tail</th><td>1</td><td>10 to 10</td>" in page) == shown
    assert ("thirds of the classes" in page) == shown
    found = json.loads((grid / "results.json").read_text(encoding="utf-8"))
    (cell,) = [each for each in found["cells"] if each.get("headline")]
    assert ("class_groups" in cell) == shown
    if shown:
        names = [name for each in cell["class_groups"].values() for name in each["classes"]]
        assert names == found_classes(grid)
        assert cell["class_groups"]["head"]["change"]["low"] > 0


def found_classes(grid: Path) -> list[str]:
    """The grid's classes, which stand by falling number of real images."""
    classes: list[str] = json.loads((grid / "grid.json").read_text(encoding="utf-8"))["classes"]
    return classes

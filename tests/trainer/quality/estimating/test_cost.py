"""What a plan costs is read from the labelled folder, and what is given counts more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.quality.estimating.cost import cost_of, measured_speed, planned_per_class


def folder(root: Path, state: dict[str, Any] | None = None, *, per_class: int = 50) -> Path:
    plan = {"images_per_class": per_class}
    (root / "generation.json").write_text(json.dumps({"plan": plan}), encoding="utf-8")
    if state is not None:
        (root / ".synthgrid-state.json").write_text(json.dumps(state), encoding="utf-8")
    return root


def server(images: int, rate: float) -> dict[str, Any]:
    return {"name": "s", "images": images, "images_per_s": rate}


def test_the_speed_is_that_of_the_servers_that_took_part(tmp_path: Path) -> None:
    state = {"servers": [server(30, 1.5), server(10, 0.5), server(0, 9.0)]}
    assert measured_speed(folder(tmp_path, state)) == (2.0, 2)


def test_without_a_rate_it_is_the_whole_runs(tmp_path: Path) -> None:
    state = {"servers": [server(30, 0.0)], "made": 30, "started": 100.0, "updated": 160.0}
    assert measured_speed(folder(tmp_path, state)) == (0.5, 1)
    state |= {"updated": 100.0}
    assert measured_speed(folder(tmp_path, state)) == (None, 1)


def test_hours_are_of_one_server_for_gpus_and_of_all_for_the_clock(tmp_path: Path) -> None:
    root = folder(tmp_path, {"servers": [server(30, 1.5), server(10, 0.5)]})
    cost = cost_of(root, 144, per_class=None, images_per_s=None)
    assert cost is not None
    assert (cost.images, cost.per_class) == (7200, 50)
    assert cost.hours == pytest.approx(1.0)
    assert cost.gpu_hours == pytest.approx(2.0)


def test_what_is_given_counts_more(tmp_path: Path) -> None:
    cost = cost_of(folder(tmp_path), 10, per_class=100, images_per_s=4.0)
    assert cost is not None
    assert (cost.images, cost.images_per_s) == (1000, 4.0)
    assert cost_of(tmp_path / "none", 10, per_class=None, images_per_s=4.0) is None
    unknown = cost_of(tmp_path / "none", 10, per_class=5, images_per_s=None)
    assert unknown is not None
    assert unknown.hours is unknown.gpu_hours is None


@pytest.mark.parametrize("text", ["", "[]", '{"plan": 3, "servers": 5}', '{"servers": [1]}'])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    for name in ("generation.json", ".synthgrid-state.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert planned_per_class(tmp_path) is None
    assert measured_speed(tmp_path) == (None, 1)

"""The plan names the headlines before training, and remembers those of plans before it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.analysis.results import results_of
from trainer.config import GridConfig
from trainer.grid.grid import run_grid
from trainer.grid.headlines import former_headlines, planned_headlines
from trainer.report.sections.cautions import warnings
from trainer.runs import DONE

MODELS = ("cnn", "lite0")


def lines(*arms: str, models: tuple[str, ...] = MODELS) -> list[dict[str, object]]:
    """A plan of these arms, "real" or "add:AMOUNT", one seed each, as in grid.json."""
    return [
        {
            "run_id": f"{model}-{arm}",
            "model": model,
            "arm": arm,
            "regime": arm.partition(":")[0],
            "ratio": float(arm.partition(":")[2] or 0),
            "source": "made" if arm != "real" else "",
            "budget": "updates" if arm != "real" else "both",
            "seed": 0,
        }
        for model in models
        for arm in arms
    ]


def finish(out: Path, *run_ids: str) -> None:
    for run_id in run_ids:
        (out / run_id).mkdir()
        (out / run_id / DONE).touch()


def test_an_earlier_headline_is_remembered_once_a_run_of_it_is_done(tmp_path: Path) -> None:
    before = {"runs": lines("real", "add:1")}
    now = planned_headlines(lines("real", "add:1", "add:3"))
    assert [(key.model, key.arm) for key in now] == [("cnn", "add:3"), ("lite0", "add:3")]
    assert former_headlines({}, tmp_path, now) == ()
    assert former_headlines(before, tmp_path, now) == ()
    finish(tmp_path, "cnn-add:1", "lite0-real")
    (former,) = former_headlines(before, tmp_path, now)
    assert (former.model, former.arm) == ("cnn", "add:1")
    assert former_headlines(before, tmp_path, planned_headlines(before["runs"])) == ()


def test_it_is_never_forgotten(tmp_path: Path) -> None:
    (first,) = planned_headlines(lines("real", "add:1", models=("cnn",)))
    (second,) = planned_headlines(lines("real", "add:1", "add:3", models=("cnn",)))
    finish(tmp_path, "cnn-add:3")
    before = {
        "runs": lines("real", "add:1", "add:3", models=("cnn",)),
        "former_headlines": [vars(first)],
    }
    (third,) = planned_headlines(lines("real", "add:6", models=("cnn",)))
    assert former_headlines(before, tmp_path, [third]) == (first, second)


def test_a_grid_names_its_headline_before_training_and_tells_when_it_was_another(
    tmp_path: Path, make_shapes: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    make_shapes(tmp_path / "real" / "train", per_class=4, seed=1)
    make_shapes(tmp_path / "real" / "test", per_class=2, seed=2)
    make_shapes(tmp_path / "made", per_class=8, seed=3)
    config = GridConfig(
        str(tmp_path / "real"),
        str(tmp_path / "grid"),
        str(tmp_path / "made"),
        models=("cnn",),
        ratios=(0.0, 1.0),
        budgets=("updates",),
        seeds=1,
        image_size_px=32,
        updates=2,
        device="cpu",
        quick=True,
    )
    with caplog.at_level(logging.INFO):
        grid = run_grid(config)
    told = [each.getMessage() for each in caplog.records]
    named = told.index("headlines, named before training: cnn add:1 (updates)")
    assert named < told.index("2 runs: 0 done before, 2 to train")
    assert not any("earlier plan" in each for each in warnings(results_of(grid)))
    grid = run_grid(replace(config, ratios=(0.0, 1.0, 2.0)))
    (warning,) = [each for each in warnings(results_of(grid)) if "earlier plan" in each]
    assert "was “real + 4 synthetic, same updates” in an earlier plan" in warning
    assert "now it is “real + 8 synthetic, same updates”" in warning
    stored = json.loads((tmp_path / "grid" / "grid.json").read_text())["former_headlines"]
    assert [each["arm"] for each in stored] == ["add:1"]

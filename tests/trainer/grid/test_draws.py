"""Whole grids whose seeds draw their own training images, or split one folder anew."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.analysis.results import results_of
from trainer.config import GridConfig
from trainer.errors import ConfigError, DataError
from trainer.grid.grid import prepare_grid, run_grid
from trainer.report import write_report
from trainer.runs import Grid, Run, read_predictions


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    """A small CNN that hardly trains: 3 real images per class of 6, 2 seeds."""
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        arms=("real", "add:1", "more:1"),
        budgets=("updates",),
        seeds=2,
        redraw=3,
        image_size_px=32,
        updates=2,
        device="cpu",
    )


def trained_on(grid: Grid, run: Run, source: str) -> set[str]:
    with (grid.root / run.run_id / "training_images.csv").open(encoding="utf-8") as file:
        return {row["file"] for row in csv.DictReader(file) if row["source"] == source}


def test_every_seed_trains_on_its_own_draw_and_all_arms_on_the_same(config: GridConfig) -> None:
    grid = run_grid(replace(config, quick=True))
    draws = {
        seed: {frozenset(trained_on(grid, run, "real")) for run in grid.runs if run.seed == seed}
        for seed in (0, 1)
    }
    assert [len(each) for each in draws.values()] == [1, 1]
    assert draws[0] != draws[1]
    for run in grid.runs:
        assert run.metrics["real_images"] == 9
        if run.arm == "more:1":
            more = trained_on(grid, run, "more")
            assert len(more) == run.metrics["more_images"] == 9
            assert not more & trained_on(grid, run, "real")
    assert grid.info["images_per_class"]["train"] == [3] * 3
    assert grid.info["images_per_class"]["more"] == [3] * 3
    page = write_report(grid.root).read_text(encoding="utf-8")
    assert "over draws of training images" in page


def test_a_draw_of_all_training_images_is_the_same_grid_as_none(config: GridConfig) -> None:
    plain = replace(config, redraw=None, arms=("real", "add:1"))
    drawn = replace(plain, redraw=6)
    one, other = ([run.run_id for run in prepare_grid(each).runs] for each in (plain, drawn))
    assert one == other


def test_a_draw_of_all_images_leaves_none_for_more(config: GridConfig) -> None:
    with pytest.raises(DataError, match="more:1"):
        prepare_grid(replace(config, redraw=6))
    with pytest.raises(DataError, match="--redraw 7 asks for more"):
        prepare_grid(replace(config, redraw=7))


@pytest.fixture
def whole(config: GridConfig, tmp_path: Path, make_shapes: Callable[..., Path]) -> GridConfig:
    folder = make_shapes(tmp_path / "all", per_class=8, seed=4)
    return replace(
        config, real=str(folder), redraw=None, test_share=0.25, arms=("real", "add:1"), seeds=3
    )


def test_one_folder_is_split_for_each_seed_and_reported(whole: GridConfig) -> None:
    grid = run_grid(whole)
    tested = {
        run.run_id: frozenset(row.file for row in read_predictions(grid.root, run.run_id))
        for run in grid.runs
    }
    for seed in range(3):
        mine = {tested[run.run_id] for run in grid.runs if run.seed == seed}
        assert len(mine) == 1
        for run in grid.runs:
            if run.seed == seed:
                assert not tested[run.run_id] & trained_on(grid, run, "real")
    assert len(set(tested.values())) == 3
    assert results_of(grid).overlap == pytest.approx(2 / 6)
    page = write_report(grid.root).read_text(encoding="utf-8")
    assert "over random splits of the images" in page
    assert not (grid.root / "mistakes.json").exists()


def test_out_is_not_inside_the_folder_that_is_split(whole: GridConfig) -> None:
    with pytest.raises(ConfigError, match="among the images"):
        prepare_grid(replace(whole, out=str(Path(whole.real) / "runs")))

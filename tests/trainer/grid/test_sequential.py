"""--seeds auto: a pilot, a plan that stays, looks that may end the grid, and resuming.

The grids are written by a stand-in that trains nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from trainer.config import GridConfig
from trainer.errors import ConfigError
from trainer.grid import run_grid, sequential
from trainer.grid.sequential import run_whole_grid
from trainer.runs import Grid, read_grid


class Trainings:
    """Stands in for run_grid: remembers the seeds that were asked for."""

    def __init__(self, make_grid: Callable[..., Path], **right: list[float]) -> None:
        self.make_grid, self.right, self.asked = make_grid, right, list[int]()
        self.fails = False

    def __call__(self, config: GridConfig, watchers: object = ()) -> Grid:
        assert isinstance(config.seeds, int)
        self.asked.append(config.seeds)
        cells = {
            cell: [None if self.fails else share for share in shares[: config.seeds]]
            for cell, shares in {
                "real/both": [0.50, 0.54, 0.52, 0.49, 0.51] * 6,
                "add:1/updates": self.right["share"],
            }.items()
        }
        out = Path(config.out)
        self.make_grid(out, cells, per_class=150, config=asdict(config) | {"synthetic": "made"})
        grid = read_grid(out)
        for run in grid.runs:
            if self.fails:
                (out / run.run_id).mkdir(exist_ok=True)
                (out / run.run_id / "error.txt").write_text("diverged", encoding="utf-8")
            else:
                path = out / run.run_id / "metrics.json"
                path.write_text(
                    json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"seconds": 30.0}),
                    encoding="utf-8",
                )
        return read_grid(out)


@pytest.fixture
def config(tmp_path: Path) -> GridConfig:
    return GridConfig(
        "real",
        str(tmp_path / "grid"),
        "made",
        models=("cnn",),
        ratios=(0.0, 1.0),
        budgets=("updates",),
        seeds="auto",
        detect=5.0,
        most_seeds=16,
    )


@pytest.fixture
def trainings(
    make_grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Trainings]:
    def make(share: list[float]) -> Trainings:
        found = Trainings(make_grid, share=share)
        monkeypatch.setattr(sequential, "run_grid", found)
        return found

    return make


ALIKE = [0.52, 0.50, 0.53, 0.51, 0.49] * 6
CLEAR = [0.82, 0.80, 0.83, 0.81, 0.79] * 6


def plan(config: GridConfig) -> dict[str, Any]:
    found = json.loads((Path(config.out) / "seeds.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_without_a_clear_answer_all_planned_seeds_are_trained(
    config: GridConfig, trainings: Callable[..., Trainings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = trainings(ALIKE)
    grid = run_whole_grid(config)
    looks = plan(config)["looks"]
    assert made.asked == looks
    assert made.asked[0] == 4
    assert len({run.seed for run in grid.runs}) == looks[-1]
    more = 2 * (looks[-1] - 4)
    assert f"at most {more} more runs, about" in caplog.text
    assert "pilot of 4 seeds: " in caplog.text


@pytest.mark.parametrize(
    ("detect", "limit", "told"),
    [
        (7.2, "seeds", "finding 7.2 points takes more than --most-seeds 8; 8 seeds find a change "),
        (0.5, "images", "test images are the limit: about "),
    ],
)
def test_a_plan_says_before_it_trains_what_keeps_it_from_finding_the_change(
    config: GridConfig,
    trainings: Callable[..., Trainings],
    caplog: pytest.LogCaptureFixture,
    detect: float,
    limit: str,
    told: str,
) -> None:
    caplog.set_level(logging.INFO)
    trainings(ALIKE)
    run_whole_grid(replace(config, detect=detect, most_seeds=8))
    assert plan(config)["limit"] == limit
    assert f"pilot of 4 seeds: {told}" in caplog.text


def test_it_stops_at_the_first_look_that_decides(
    config: GridConfig, trainings: Callable[..., Trainings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = trainings(CLEAR)
    grid = run_whole_grid(replace(config, detect=2.0))
    assert made.asked == [4, 8]
    assert grid.info["config"]["looks"][1] == 8 < grid.info["config"]["looks"][-1]
    assert "every headline is decided after 8 of 16 seeds" in caplog.text


def test_the_same_command_goes_on_where_the_grid_stands(
    config: GridConfig, trainings: Callable[..., Trainings]
) -> None:
    config = replace(config, detect=2.0)
    trainings(CLEAR)
    run_whole_grid(config)
    before = plan(config)
    again = trainings(CLEAR)
    run_whole_grid(config)
    assert again.asked == [8]
    assert plan(config) == before


def test_a_stop_between_looks_resumes_with_the_same_plan(
    config: GridConfig, trainings: Callable[..., Trainings], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainings(ALIKE)

    def interrupted(config: GridConfig, watchers: object = ()) -> Grid:
        if made.asked[-1:] == [8]:
            raise KeyboardInterrupt
        return made(config)

    config = replace(config, detect=2.0)
    monkeypatch.setattr(sequential, "run_grid", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_whole_grid(config)
    before = plan(config)
    again = trainings(ALIKE)
    run_whole_grid(config)
    assert again.asked == before["looks"][1:]
    assert plan(config) == before


def test_another_change_to_detect_would_be_a_new_plan_after_a_look(
    config: GridConfig, trainings: Callable[..., Trainings]
) -> None:
    trainings(ALIKE)
    run_whole_grid(config)
    with pytest.raises(
        ConfigError, match=r"plan for another change than --detect 3.*another --out"
    ):
        run_whole_grid(replace(config, detect=3.0))
    (Path(config.out) / "seeds.json").write_text('{"asked": 5.0}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"seeds.json is damaged"):
        run_whole_grid(config)


def test_a_fixed_number_of_seeds_trains_once_and_warns_after_looks(
    config: GridConfig, trainings: Callable[..., Trainings], caplog: pytest.LogCaptureFixture
) -> None:
    made = trainings(ALIKE)
    run_whole_grid(replace(config, seeds=3))
    assert made.asked == [3]
    assert not caplog.records
    run_whole_grid(config)
    run_whole_grid(replace(config, seeds=16))
    assert "p-values do not allow for that" in caplog.text


def test_run_grid_alone_does_not_plan(config: GridConfig) -> None:
    with pytest.raises(ConfigError, match="run_whole_grid plans it"):
        run_grid(config)


def test_a_pilot_that_fails_plans_nothing(
    config: GridConfig, trainings: Callable[..., Trainings]
) -> None:
    made = trainings(ALIKE)
    made.fails = True
    assert run_whole_grid(config).failed()
    assert made.asked == [4]
    assert not (Path(config.out) / "seeds.json").exists()

"""--seeds auto: a pilot, a plan, and looks that may end the grid before all seeds are trained.

The plan is written before anything but the pilot is trained, and never changes: a new plan after a
look would raise false alarms. The same command resumes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trainer.analysis.cellkey import HEADLINE_METRIC
from trainer.analysis.results import Results, results_of
from trainer.analysis.statistics.power import LookPlan, plan_looks
from trainer.config import AUTO, PILOT_SEEDS, GridConfig
from trainer.errors import ConfigError
from trainer.grid.grid import run_grid
from trainer.grid.watching import Watcher
from trainer.runs import GRID_FILE, PLAN_FILE, Grid, read_json_file, to_json, write_file

logger = logging.getLogger(__name__)


def run_whole_grid(config: GridConfig, watchers: Sequence[Watcher] = ()) -> Grid:
    """Trains what is missing of a grid, with a fixed number of seeds or one that it plans.
    `watchers` are told as runs end.

    Raises:
        TrainerError: as `run_grid`; or the folder has a plan for another change.
    """
    out = Path(config.out)
    if config.seeds != AUTO:
        if (out / PLAN_FILE).is_file():
            logger.warning(
                "this grid was begun with --seeds auto and may have been looked at; with a fixed "
                "number of seeds p-values do not allow for that"
            )
        return run_grid(config, watchers)
    plan = _stored_plan(config)
    if plan is None:
        grid = run_grid(replace(config, seeds=PILOT_SEEDS), watchers)
        if grid.failed():
            return grid
        plan = _new_plan(results_of(grid), config)
        write_file(out / PLAN_FILE, to_json(asdict(plan) | {"asked": config.detect}))
    return _look_by_look(config, plan, watchers)


def _look_by_look(config: GridConfig, plan: LookPlan, watchers: Sequence[Watcher]) -> Grid:
    before = _seeds_before(Path(config.out), plan)
    for look in (each for each in plan.looks[1:] if each >= before):
        grid = run_grid(replace(config, seeds=look, looks=plan.looks), watchers)
        if grid.failed():
            break
        if results_of(grid).is_decided and look < plan.looks[-1]:
            logger.info(
                "every headline is decided after %d of %d seeds: the others are not trained",
                *(look, plan.looks[-1]),
            )
            break
    return grid


def _seeds_before(out: Path, plan: LookPlan) -> int:
    """How many seeds the grid in the folder had when it was last looked at."""
    config = read_json_file(out / GRID_FILE)["config"] if (out / GRID_FILE).is_file() else {}
    same = tuple(config.get("looks", ())) == plan.looks and config.get("seeds") in plan.looks
    return int(config["seeds"]) if same else 0


def _stored_plan(config: GridConfig) -> LookPlan | None:
    path = Path(config.out) / PLAN_FILE
    if not path.is_file():
        return None
    values: dict[str, Any] = read_json_file(path)
    if values.pop("asked", None) != config.detect:
        raise ConfigError(
            f"{path} has a plan for another change than --detect {config.detect:g}; a new plan "
            "after a look raises false alarms: choose another --out"
        )
    try:
        return LookPlan.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}); choose another --out") from error


def _new_plan(pilot: Results, config: GridConfig) -> LookPlan:
    compared = [
        comparison
        for model in pilot.models
        for key in pilot.headlines(model)
        if (comparison := pilot.comparison(key)) is not None
    ]
    if not compared:
        raise ConfigError(
            "seeds auto plans for synthetic images compared with real only, and no arm has any; "
            "give a number of seeds"
        )
    plan = plan_looks(
        [each.changes[HEADLINE_METRIC] for each in compared],
        (config.detect or 0.0) / 100,
        tests=len(compared),
        most_seeds=config.most_seeds,
    )
    assert plan is not None  # the pilot has several seeds
    logger.info("%s", _announcement(pilot, plan, config))
    return plan


def _announcement(pilot: Results, plan: LookPlan, config: GridConfig) -> str:
    """What is planned after the pilot, and what it costs."""
    runs = [run for each in pilot.runs.values() for run in each.values()]
    more = (plan.looks[-1] - PILOT_SEEDS) * len(pilot.keys)
    seconds = more * sum(float(run.metrics["seconds"]) for run in runs) / len(runs)
    shown = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    reason = {
        "": "",
        "images": f"test images are the limit: about {plan.test_images:.1f} times as many are "
        f"needed to find {config.detect:g} points; ",
        "seeds": f"finding {config.detect:g} points takes more than --most-seeds "
        f"{config.most_seeds}; ",
    }[plan.limit]
    return (
        f"pilot of {PILOT_SEEDS} seeds: {reason}{plan.looks[-1]} seeds find a change of "
        f"{min(1.0, plan.detects) * 100:.1f} points in 80% of such grids; tests after "
        f"{', '.join(map(str, plan.looks[1:]))} seeds; at most {more} more runs, about {shown} one "
        "after the other"
    )

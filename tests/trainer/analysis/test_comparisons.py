"""Verdicts over whole grids: worked cases, and simulated grids in which nothing, or something, is
to be found."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

from trainer.analysis.comparisons import CellKey, judge

REAL = CellKey("cnn", "real", "both")


def adding(ratio: float, budget: str = "updates", model: str = "cnn") -> CellKey:
    return CellKey(model, f"add:{ratio:g}", budget, "add", ratio)


def runs_with(shares: list[float], true: np.ndarray, *, seed: int) -> dict[int, np.ndarray]:
    """A run a share, that gets about so many images right; which ones is drawn from `seed` and the
    run's number."""
    found = {}
    for number, share in enumerate(shares):
        random = np.random.RandomState(1000 * seed + number)
        found[number] = np.where(random.rand(len(true)) < share, true, (true + 1) % 3)
    return found


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return np.repeat([0, 1, 2], 200)


def test_a_large_gain_is_better_and_a_large_loss_worse(true: np.ndarray) -> None:
    found = judge(
        true,
        {
            REAL: runs_with([0.60] * 4, true, seed=1),
            adding(0.5): runs_with([0.80] * 4, true, seed=2),
            adding(1.0): runs_with([0.60] * 4, true, seed=3),
            adding(2.0): runs_with([0.40] * 4, true, seed=4),
        },
        3,
        resamples=200,
    )
    assert [each.verdict for each in found.comparisons.values()] == ["better", "unclear", "worse"]
    gain = found.comparisons[adding(0.5)]
    assert gain.changes["f1"].value == pytest.approx(0.2, abs=0.05)
    assert gain.mcnemar.won > gain.mcnemar.lost
    assert gain.mcnemar.p < 1e-6
    assert [round(each.value, 1) for each in gain.classes] == [0.2, 0.2, 0.2]
    assert set(found.cells) == {REAL, adding(0.5), adding(1.0), adding(2.0)}


def test_p_values_are_corrected_over_all_models_and_budgets(true: np.ndarray) -> None:
    def one(model: str, seed: int) -> dict:
        return {
            CellKey(model, "real", "both"): runs_with([0.60] * 3, true, seed=seed),
            adding(1.0, model=model): runs_with([0.66] * 3, true, seed=seed + 1),
            adding(1.0, "epochs", model=model): runs_with([0.60] * 3, true, seed=seed + 2),
        }

    alone, together = (
        judge(true, one("cnn", 1), 3, resamples=200),
        judge(true, one("cnn", 1) | one("vit", 4), 3, resamples=200),
    )
    key = adding(1.0)
    assert alone.comparisons[key].changes["f1"] == together.comparisons[key].changes["f1"]
    raw = alone.comparisons[key].changes["f1"].p
    assert raw is not None
    assert alone.comparisons[key].p_holm == pytest.approx(min(1.0, 2 * raw))
    assert together.comparisons[key].p_holm == pytest.approx(min(1.0, 4 * raw))


def test_a_falling_curve_and_the_step_at_which_it_falls_are_found(true: np.ndarray) -> None:
    levels = {0.5: 0.62, 1.0: 0.61, 2.0: 0.40}
    cells = {
        adding(ratio): runs_with([level] * 4, true, seed=int(10 * ratio))
        for ratio, level in levels.items()
    }
    (trend,) = judge(
        true, {REAL: runs_with([0.62] * 4, true, seed=1)} | cells, 3, resamples=200
    ).trends
    assert trend.amounts == (0.0, 0.5, 1.0, 2.0)
    assert trend.falls
    assert trend.worse_steps == (1,)  # from 1.0 to 2.0
    rising = {
        adding(ratio): runs_with([level] * 4, true, seed=1)
        for ratio, level in ((0.5, 0.7), (1.0, 0.8))
    }
    (trend,) = judge(
        true, {REAL: runs_with([0.6] * 4, true, seed=2)} | rising, 3, resamples=200
    ).trends
    assert not trend.falls
    assert trend.slope.value > 0.1


def test_one_seed_is_not_tested(true: np.ndarray) -> None:
    cells = {REAL: runs_with([0.5], true, seed=1), adding(1.0): runs_with([0.9], true, seed=2)}
    found = judge(true, cells, 3, resamples=50).comparisons[adding(1.0)]
    assert (found.verdict, found.p_holm, found.changes["f1"].low) == ("untested", None, None)
    assert found.mcnemar.won > 100


def test_cells_without_runs_or_without_a_baseline_are_not_compared(true: np.ndarray) -> None:
    cells = {REAL: {}, adding(1.0): runs_with([0.9, 0.8], true, seed=2), adding(2.0): {}}
    found = judge(true, cells, 3, resamples=50)
    assert not found.comparisons
    assert list(found.cells) == [adding(1.0)]


def test_identical_cells_have_a_change_of_exactly_nothing(true: np.ndarray) -> None:
    same = runs_with([0.6] * 3, true, seed=1)
    change = judge(true, {REAL: same, adding(1.0): same}, 3, resamples=50).comparisons[adding(1.0)]
    assert (change.changes["f1"].value, change.p_holm, change.verdict) == (0, 1, "unclear")
    json.dumps(asdict(change), allow_nan=False)


# --- simulated grids ---


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "false_alarms.py"
    spec = importlib.util.spec_from_file_location("false_alarms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def most_alarms(grids: int) -> int:
    """So many of `grids` are still plausible (99.9%) where the truth is 5%."""
    return int(binom.ppf(0.999, grids, 0.05))


def test_nothing_is_found_where_nothing_is_in_a_few_grids(
    simulation: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    grids, alarms = 25, 0.0
    for seeds, images in ((3, 10), (5, 30)):
        world = simulation.World(seeds=seeds, images_per_class=images, run=0.12, uneven_runs=0.5)
        alarms += (
            grids
            * simulation.measure(world, grids=grids, resamples=60, crossed=False)["false_alarm"]
        )
    with capsys.disabled():
        print(f"\nfalse alarms in {2 * grids} simulated grids: {alarms / (2 * grids):.3f}")
    assert alarms <= most_alarms(2 * grids)


def test_five_points_are_mostly_found_by_five_seeds_on_a_thousand_images(
    simulation: ModuleType,
) -> None:
    world = simulation.World(models=1, seeds=5, images_per_class=100, effect=0.05)
    assert simulation.measure(world, grids=15, resamples=60, crossed=False)["found"] >= 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "3 seeds, 100 images",
        "3 seeds, 300 images",
        "5 seeds, 300 images",
        "3 seeds, 1000 images",
        "5 seeds, 1000 images",
        "runs hardly differ",
        "runs differ much",
        "images differ much",
        "uneven runs",
        "one comparison",
        "1 model, 8 arms",
        "20 classes of 5",
    ],
)
def test_at_most_5_percent_of_1000_grids_give_a_false_alarm(
    simulation: ModuleType, name: str
) -> None:
    found = simulation.measure(simulation.WORLDS[name], grids=1000, resamples=100, crossed=False)
    print(
        "\n"
        f"{name}: false alarms {found['false_alarm']:.3f}, slopes {found['slope']:.3f}, steps "
        f"{found['step']:.3f}"
    )
    assert found["false_alarm"] <= 0.05
    assert max(found["slope"], found["step"]) <= most_alarms(1000) / 1000


@pytest.mark.slow
def test_a_larger_effect_or_more_images_are_found_more_often(simulation: ModuleType) -> None:
    world = simulation.WORLDS["+5 points, 5 seeds, 1000"]
    found = {
        name: simulation.measure(each, grids=100, resamples=100, crossed=False)["found"]
        for name, each in {
            "+5": world,
            "+10": replace(world, effect=0.1),
            "+5 on 300": replace(world, images_per_class=30),
        }.items()
    }
    print(f"\nfound: {found}")
    assert found["+5"] >= 0.7
    assert found["+10"] >= 0.95
    assert found["+5 on 300"] < found["+5"]

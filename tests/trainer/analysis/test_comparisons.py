"""Verdicts over whole grids: worked cases, and simulated grids in which nothing, or something, is
to be found.

Covers: trainer.analysis.cellkey, trainer.analysis.changes, trainer.analysis.comparisons.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student_t
from statsmodels.stats.multitest import multipletests

from benchmarks.evidence import false_alarms as simulation
from trainer.analysis.cellkey import CellKey, headline_keys
from trainer.analysis.comparisons import Comparison, Judged, judge, judge_all
from trainer.analysis.statistics.sequential import levels, sequential_p

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
    )
    assert [each.verdict for each in found.comparisons.values()] == ["better", "unclear", "worse"]
    gain = found.comparisons[adding(0.5)]
    assert gain.changes["f1"].value == pytest.approx(0.2, abs=0.05)
    assert gain.votes.won > gain.votes.lost
    assert [round(each.value, 1) for each in gain.classes] == [0.2, 0.2, 0.2]
    assert set(found.cells) == {REAL, adding(0.5), adding(1.0), adding(2.0)}


def test_headlines_are_corrected_among_themselves_and_all_others_together(
    true: np.ndarray,
) -> None:
    def one(model: str, seed: int) -> dict:
        return {
            CellKey(model, "real", "both"): runs_with([0.60] * 3, true, seed=seed),
            adding(0.5, model=model): runs_with([0.64] * 3, true, seed=seed + 1),
            adding(1.0, model=model): runs_with([0.66] * 3, true, seed=seed + 2),
            adding(1.0, "epochs", model=model): runs_with([0.60] * 3, true, seed=seed + 3),
        }

    cells = one("cnn", 1) | one("vit", 5)
    found = judge(true, cells, 3).comparisons
    headlines = [key for key, each in found.items() if each.is_headline]
    assert headlines == [adding(1.0, model="cnn"), adding(1.0, model="vit")]
    for keys in (headlines, [key for key in found if key not in headlines]):
        raw = [found[key].changes["f1"].p for key in keys]
        wanted = multipletests(raw, method="holm")[1]
        assert [found[key].p_holm for key in keys] == pytest.approx(list(wanted))
        assert {found[key].family for key in keys} == {len(keys)}


def test_the_plan_names_the_headline_whatever_is_finished(true: np.ndarray) -> None:
    """The largest amount planned was not trained: no other cell takes its place."""
    cells = {
        REAL: runs_with([0.6] * 3, true, seed=1),
        adding(1.0): runs_with([0.9] * 3, true, seed=2),
    }
    assert judge(true, cells, 3).comparisons[adding(1.0)].is_headline
    planned = (REAL, adding(1.0), adding(2.0))
    assert not judge(true, cells, 3, planned=planned).comparisons[adding(1.0)].is_headline


def test_a_small_change_measured_well_is_no_change_larger_than_a_point() -> None:
    true = np.repeat([0, 1, 2], 4000)
    same = runs_with([0.9] * 5, true, seed=1)
    cells = {REAL: same, adding(1.0): {seed: run.copy() for seed, run in same.items()}}
    for run in cells[adding(1.0)].values():
        run[:12] = 1 - true[:12]  # 0.1 points
    found = judge(true, cells, 3).comparisons[adding(1.0)]
    assert (found.verdict, found.is_small) in [("same", True), ("worse", True)]
    strict = judge(true, cells, 3, meaningful=0.0005).comparisons[adding(1.0)]
    assert not strict.is_small


def test_an_interval_without_zero_is_suggestive_where_the_correction_is_not_passed(
    true: np.ndarray,
) -> None:
    base = {REAL: runs_with([0.60] * 4, true, seed=1)}
    cells = base | {adding(n): runs_with([0.645] * 4, true, seed=int(n)) for n in range(2, 10)}
    found = [each for each in judge(true, cells, 3).comparisons.values() if each.is_suggestive]
    assert found
    assert all(each.verdict == "unclear" for each in found)
    assert all((each.changes["f1"].low or 0) > 0 for each in found)


def test_headlines_meet_augmentation_copies_and_additional_images(true: np.ndarray) -> None:
    def key(regime: str, ratio: float, budget: str) -> CellKey:
        return CellKey("cnn", f"{regime}:{ratio:g}" if ratio else regime, budget, regime, ratio)

    rivals = {
        key("augment", 0.0, "both"): 0.6,
        key("copies", 1.0, "updates"): 0.5,
        key("copies", 2.0, "updates"): 0.5,
        key("more", 1.0, "updates"): 0.9,
        key("more", 1.0, "epochs"): 0.9,
    }
    cells = {
        REAL: runs_with([0.6] * 4, true, seed=1),
        adding(2.0): runs_with([0.75] * 4, true, seed=2),
    }
    cells |= {
        each: runs_with([share] * 4, true, seed=number + 3)
        for number, (each, share) in enumerate(rivals.items())
    }
    found = judge(true, cells, 3)
    assert [duel.rival.arm for duel in found.duels] == ["augment", "copies:2", "more:1"]
    assert [duel.verdict for duel in found.duels] == ["better", "better", "worse"]
    assert {each.family for each in found.comparisons.values() if not each.is_headline} == {5 + 3}


def test_synthetic_images_with_an_augmentation_meet_the_real_ones_with_it(
    true: np.ndarray,
) -> None:
    def key(regime: str, kind: str, ratio: float = 0.0, budget: str = "both") -> CellKey:
        arm = f"{regime}+augment{kind}" if ratio else f"augment{kind}"
        group = f"{regime.partition(':')[0]}+augment{kind}" if ratio else "augment"
        return CellKey("cnn", arm, budget, group, ratio, "made" if ratio else "")

    plain, trivial = key("", ""), key("", ":trivial")
    added = key("add:1", ":trivial", 1.0, "updates")
    more = CellKey("cnn", "more:1+augment", "updates", "more+augment", 1.0)
    cells = {REAL: runs_with([0.6] * 4, true, seed=1)} | {
        each: runs_with([share] * 4, true, seed=number + 2)
        for number, (each, share) in enumerate(
            {plain: 0.6, trivial: 0.65, added: 0.8, more: 0.7, adding(1.0): 0.6}.items()
        )
    }
    found = judge(true, cells, 3)
    duels = {(duel.key, duel.rival): duel.verdict for duel in found.duels}
    assert duels.pop((added, trivial)) == "better"
    assert set(duels) == {(adding(1.0), plain), (adding(1.0), trivial)}


def test_auxiliary_batch_norm_meets_its_control_at_the_same_arm_and_budget(
    true: np.ndarray,
) -> None:
    def key(ratio: float, norms: str, budget: str = "updates") -> CellKey:
        arm = f"add:{ratio:g}+norms:{norms}"
        return CellKey("cnn", arm, budget, f"add+norms:{norms}", ratio)

    cells = {
        REAL: runs_with([0.6] * 4, true, seed=1),
        adding(1.0): runs_with([0.65] * 4, true, seed=2),
        key(1.0, "aux"): runs_with([0.8] * 4, true, seed=3),
        key(1.0, "stratified", "epochs"): runs_with([0.9] * 4, true, seed=5),
        key(1.0, "stratified"): runs_with([0.65] * 4, true, seed=4),
        key(2.0, "aux"): runs_with([0.8] * 4, true, seed=6),
    }
    found = judge(true, cells, 3)
    assert {(duel.key, duel.rival): duel.verdict for duel in found.duels} == {
        (key(1.0, "aux"), key(1.0, "stratified")): "better",
        (key(1.0, "stratified"), adding(1.0)): "unclear",
    }
    assert [key for key, each in found.comparisons.items() if each.is_headline] == [adding(1.0)]
    assert {each.family for each in found.comparisons.values() if not each.is_headline} == {4 + 2}


def test_arms_with_other_norms_are_never_the_answer() -> None:
    half = CellKey("cnn", "swap:0.5", "both", "swap", 0.5, "made")
    beside = replace(half, arm="swap:0.5+norms:aux", regime="swap+norms:aux")
    assert headline_keys([REAL, half, beside]) == (half,)


def test_sources_meet_the_one_that_the_plan_names_first_at_equal_amounts(true: np.ndarray) -> None:
    def of(source: str, ratio: float, budget: str = "updates") -> CellKey:
        return CellKey("cnn", f"add:{ratio:g}@{source}", budget, "add", ratio, source)

    shares = {of("b", 1.0): 0.6, of("b", 2.0): 0.6, of("a", 2.0): 0.75, of("c", 3.0): 0.75}
    shares |= {of("a", 2.0, "epochs"): 0.75, of("b", 2.0, "epochs"): 0.6}
    cells = {REAL: runs_with([0.6] * 4, true, seed=1)} | {
        key: runs_with([share] * 4, true, seed=number + 2)
        for number, (key, share) in enumerate(shares.items())
    }
    (duel,) = judge(true, cells, 3).duels
    assert (duel.key, duel.rival, duel.verdict) == (of("a", 2.0), of("b", 2.0), "better")


def test_one_seed_is_not_tested(true: np.ndarray) -> None:
    cells = {REAL: runs_with([0.5], true, seed=1), adding(1.0): runs_with([0.9], true, seed=2)}
    found = judge(true, cells, 3).comparisons[adding(1.0)]
    assert (found.verdict, found.p_holm, found.changes["f1"].low) == ("untested", None, None)
    assert found.votes.won > 100


def test_cells_without_runs_or_without_a_baseline_are_not_compared(true: np.ndarray) -> None:
    cells = {REAL: {}, adding(1.0): runs_with([0.9, 0.8], true, seed=2), adding(2.0): {}}
    found = judge(true, cells, 3)
    assert not found.comparisons
    assert list(found.cells) == [adding(1.0)]


def test_identical_cells_have_a_change_of_exactly_nothing(true: np.ndarray) -> None:
    same = runs_with([0.6] * 3, true, seed=1)
    change = judge(true, {REAL: same, adding(1.0): same}, 3).comparisons[adding(1.0)]
    assert (change.changes["f1"].value, change.p_holm, change.verdict) == (0, 1, "same")
    json.dumps(asdict(change), allow_nan=False)


# --- simulated grids ---


def most_alarms(grids: int) -> int:
    """So many of `grids` are still plausible (99.9%) where the truth is 5%."""
    return int(binom.ppf(0.999, grids, 0.05))


def test_nothing_is_found_where_nothing_is_in_a_few_grids() -> None:
    grids, alarms = 40, 0.0
    for seeds, images in ((3, 100), (5, 300)):
        world = simulation.World(seeds=seeds, images=images, run=0.12, uneven=0.5)
        alarms += grids * simulation.measure(world, grids=grids)["headline"]
    assert alarms <= most_alarms(2 * grids)


def test_three_points_are_mostly_found_by_five_seeds_on_2700_images() -> None:
    world = simulation.World(models=1, arms=3, seeds=5, images=2700, effect=0.03)
    found = simulation.measure(world, grids=15)
    assert found["oracle"] >= found["found"] >= 0.6


def test_a_world_is_above_5_percent_only_beyond_chance_and_the_number_of_worlds() -> None:
    one = float(binom.sf(117, 2000, 0.05))  # 118 alarms or more
    assert 0.03 < one < 0.05
    assert simulation.surplus_p({"a": 118}, 2000) == pytest.approx({"a": one})
    several = simulation.surplus_p({"a": 118, "b": 90, "c": 150}, 2000)
    assert several["a"] == pytest.approx(2 * one)  # after c, the more striking one
    assert several["c"] < 1e-5
    assert several["b"] > 0.8


def test_the_script_prints_an_exact_interval_and_a_conclusion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {**dict.fromkeys(simulation.MEASURED, 0.0), "headline": 0.09}
    monkeypatch.setattr(simulation, "measure", lambda *_, **__: found)
    names = ("plain: 3 seeds, 100 images", "stable: 3 seeds, 300 images")
    worlds = {name: simulation.WORLDS[name] for name in names}
    monkeypatch.setattr(simulation, "WORLDS", worlds | {"+2": simulation.World(effect=0.02)})
    monkeypatch.setattr(sys, "argv", ["false_alarms.py", "--grids", "1000"])
    simulation.main()
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split()[4:7] == ["headline", "low", "high"]
    assert [row[42:69].split() for row in rows] == [["0.090", "0.073", "0.109"]] * 2 + [["nan"] * 3]
    assert "for 2 worlds: " in last
    assert all(name in last for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "plain: 3 seeds, 300 images",
        "plain: 5 seeds, 300 images",
        "plain: 5 seeds, 2700 images",
        "stable: 5 seeds, 300 images",
        "noisy: 5 seeds, 300 images",
        "uneven: 3 seeds, 2700 images",
        "very uneven: 5 seeds, 300 images",
        "imbalanced: 5 seeds, 300 images",
        "collapsing: 5 seeds, 1000 images",
        "one comparison",
        "1 model, 8 arms",
        "20 classes of 5",
    ],
)
def test_no_family_has_false_alarms_in_more_than_5_percent_of_500_grids(name: str) -> None:
    found = simulation.measure(simulation.WORLDS[name], grids=500)
    families = {family: found[family] for family in ("headline", "explore", "slope", "step")}
    print(f"\n{name}: {families}")
    assert max(families.values()) <= most_alarms(500) / 500


def test_planned_grids_stop_early_for_large_effects_and_seldom_cry_wolf() -> None:
    null = simulation.World(models=1, arms=2, images=300, run=0.12, uneven=0.5)
    options = {"detect": 0.04, "most_seeds": 12}
    nothing = simulation.measure_planned(null, grids=40, **options)
    assert nothing["headline"] <= most_alarms(40) / 40
    large = simulation.measure_planned(replace(null, effect=0.12), grids=15, **options)
    assert large["early"] >= 0.3
    assert large["seeds"] < large["planned"] <= 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["uneven: 1000 images", "collapsing: 1000 images", "one comparison, uneven: 2700 images"],
)
def test_looking_and_stopping_raises_no_false_alarms(name: str) -> None:
    world = simulation.PLANNED_WORLDS[name]
    found = simulation.measure_planned(world, grids=300, detect=0.02, most_seeds=20)
    print(f"\n{name}: {found}")
    assert max(found["headline"], found["explore"]) <= most_alarms(300) / 300


@pytest.mark.slow
def test_a_larger_effect_or_more_images_are_found_more_often() -> None:
    world = simulation.WORLDS["+3 points: 5 seeds, 2700 images"]
    found = {
        name: simulation.measure(each, grids=100)["found"]
        for name, each in {
            "+3": world,
            "+5": replace(world, effect=0.05),
            "+3 on 300": replace(world, images=300),
        }.items()
    }
    print(f"\nfound: {found}")
    assert found["+3"] >= 0.7
    assert found["+5"] >= 0.95
    assert found["+3 on 300"] < found["+3"]


LOOKS = (4, 8, 12)


def two_cells(
    true: np.ndarray, seeds: int, share: float = 0.66
) -> dict[CellKey, dict[int, np.ndarray]]:
    return {
        REAL: runs_with([0.60] * seeds, true, seed=1),
        adding(1.0): runs_with([share] * seeds, true, seed=2),
    }


def at_looks(true: np.ndarray, seeds: int, share: float = 0.66) -> Comparison:
    return judge(true, two_cells(true, seeds, share), 3, looks=LOOKS).comparisons[adding(1.0)]


def test_a_look_has_the_sequential_p_value_and_an_interval_at_its_level(true: np.ndarray) -> None:
    """At the first look: as without looks, but with the seeds after the pilot as the error, at the
    level that this look has."""
    cells = {
        REAL: runs_with([0.60] * 8, true, seed=1),
        adding(1.0): runs_with([0.66] * 8, true, seed=2),
    }
    plain = judge(true, cells, 3).comparisons[adding(1.0)].changes["f1"]
    looked = at_looks(true, 8).changes["f1"]
    assert looked.value == plain.value
    assert looked.low is not None
    assert plain.low is not None
    assert looked.low < plain.low
    level = levels(LOOKS)[0]
    assert looked.se is not None
    half = student_t.isf(level / 2, looked.df) * looked.se
    assert looked.value - looked.low == pytest.approx(half)
    p = 2 * student_t.sf(abs(looked.value) / looked.se, looked.df)
    assert looked.p == pytest.approx(sequential_p([p], LOOKS))


def test_what_an_early_look_found_is_found_for_good(true: np.ndarray) -> None:
    early, late = (at_looks(true, seeds, share=0.75) for seeds in (8, 12))
    assert early.verdict == late.verdict == "better"
    assert late.p_holm is not None
    assert early.p_holm is not None
    assert late.p_holm <= early.p_holm


def test_over_splits_there_are_no_votes_and_images_do_not_count(true: np.ndarray) -> None:
    cells = {
        REAL: runs_with([0.6] * 4, true, seed=1),
        adding(1.0): runs_with([0.7] * 4, true, seed=2),
    }
    plain = judge(true, cells, 3).comparisons[adding(1.0)]
    found = judge(true, cells, 3, overlap=0.5).comparisons[adding(1.0)]
    assert (found.votes.won, found.votes.lost) == (0, 0)
    assert plain.votes.won > 0
    change = found.changes["accuracy"]
    assert change.images == pytest.approx((change.se or 0) ** 2 * 0.5 / (1 / 4 + 0.5))


def test_test_sets_are_corrected_together(true: np.ndarray) -> None:
    """Three headlines and three explorations: statsmodels corrects their p-values to the same."""
    tests = {
        name: Judged(
            true,
            {
                REAL: runs_with([0.60] * 4, true, seed=place),
                adding(0.5): runs_with([share] * 4, true, seed=place + 10),
                adding(1.0): runs_with([share + 0.02] * 4, true, seed=place + 20),
            },
        )
        for place, (name, share) in enumerate({"": 0.61, "sketch": 0.64, "art": 0.60}.items())
    }
    found = judge_all(tests, 3)
    for key in (adding(0.5), adding(1.0)):
        alone = [judge(each.true, each.predicted, 3).comparisons[key] for each in tests.values()]
        raw = [each.changes["f1"].p for each in alone]
        corrected = multipletests(raw, method="holm")[1]
        assert [found[name].comparisons[key].p_holm for name in tests] == pytest.approx(corrected)
        assert {found[name].comparisons[key].family for name in tests} == {3}
    raw = [judge(each.true, each.predicted, 3).trends[0].slope.p for each in tests.values()]
    slopes = [found[name].trends[0].p_slope for name in tests]
    assert slopes == pytest.approx(multipletests(raw, method="holm")[1])


def test_one_test_set_is_judged_as_ever(true: np.ndarray) -> None:
    runs = {
        REAL: runs_with([0.60] * 3, true, seed=1),
        adding(1.0): runs_with([0.65] * 3, true, seed=2),
    }
    assert judge_all({"": Judged(true, runs)}, 3)[""] == judge(true, runs, 3)

"""Head, middle and tail classes: who belongs where, and how each group changes."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.analysis.comparisons import score
from trainer.analysis.statistics.stats import CHANGE, contrast
from trainer.analysis.tails import frequency_groups, group_changes

REAL = (100, 5, 40, 12, 60, 20)  # per class


def guesses(true: np.ndarray, shares: dict[int, float], seed: int) -> np.ndarray:
    """Predictions that are right with each class's share."""
    random = np.random.RandomState(seed)
    hit = random.rand(len(true)) < np.vectorize(shares.__getitem__)(true)
    return np.where(hit, true, (true + 1) % len(shares))


def test_terciles_go_by_the_number_of_real_images() -> None:
    assert frequency_groups(REAL) == {"head": (0, 4), "middle": (2, 5), "tail": (3, 1)}
    sizes = [len(group) for group in frequency_groups(range(1, 11)).values()]
    assert sizes == [4, 3, 3]


@pytest.mark.parametrize(
    ("real", "shown"),
    [((30, 30, 30), False), ((29, 15, 10), False), ((30, 15, 10), True), ((90, 1), False)],
)
def test_groups_are_for_counts_that_differ_by_a_factor_of_three(
    real: tuple[int, ...], shown: bool
) -> None:
    assert bool(frequency_groups(real)) == shown


def test_a_gain_of_the_tail_alone_is_found_in_the_tail_alone() -> None:
    true = np.repeat(np.arange(6), 200)
    before = {seed: guesses(true, dict.fromkeys(range(6), 0.6), seed) for seed in range(4)}
    tail = dict.fromkeys(range(6), 0.6) | {1: 0.8, 3: 0.7}
    after = {seed: guesses(true, tail, 10 + seed) for seed in range(4)}
    found = group_changes(true, before, after, REAL)
    assert list(found) == ["head", "middle", "tail"]
    assert found["tail"].change.value == pytest.approx(0.15, abs=0.03)
    assert [each.change.excludes_zero for each in found.values()] == [False, False, True]
    assert (found["tail"].classes, found["tail"].real) == ((3, 1), (5, 12))
    for each in found.values():
        assert each.after - each.before == pytest.approx(each.change.value)


def test_groups_of_all_classes_together_are_the_macro_recall_and_its_interval() -> None:
    """One group of three classes, against the recall that every grid has."""
    true = np.concatenate([np.repeat(np.arange(3), (30, 40, 50)), np.repeat([3, 4, 5], 10)])
    random = np.random.RandomState(0)
    runs = [{seed: random.randint(0, 3, len(true)) for seed in range(3)} for _ in range(2)]
    real = (99, 98, 97, 3, 2, 1, 1, 1, 1)  # the head are the first three of nine classes
    found = group_changes(true, runs[0], runs[1], real)["head"].change
    first = true < 3
    cells = [
        score(true[first], {s: run[first] for s, run in each.items()}, 3, metrics=["recall"])
        for each in runs
    ]
    expected = contrast([(1.0, cells[1]["recall"]), (-1.0, cells[0]["recall"])], bounds=CHANGE)
    assert expected is not None
    for name in ("value", "low", "high", "images"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-5)


def test_classes_without_test_images_and_single_seeds_are_no_trouble() -> None:
    true = np.repeat([0, 2, 4], 20)
    runs = {0: true.copy()}
    found = group_changes(true, runs, runs, REAL)
    assert list(found) == ["head", "middle"]
    assert found["head"].change.low is None
    assert group_changes(true, runs, {1: true}, REAL) == {}

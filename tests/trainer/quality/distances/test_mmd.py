"""The distance is unbiased at any counts per class, and its intervals hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainer.quality.distances.mmd import (
    Blocks,
    Distance,
    difference,
    kernel_blocks,
    polynomial,
    rbf,
    squared_distance,
)

Draw = Callable[[int, float], np.ndarray]


def source(seed: int, *, classes: int = 1, width: int = 20, fades: float = 8.0) -> Draw:
    """draw(n, shift): n rows of each class, moved along the first axis."""
    random = np.random.default_rng(seed)
    scale = np.exp(-np.arange(width) / fades)
    centres = random.normal(size=(classes, width)) * scale

    def draw(n: int, shift: float) -> np.ndarray:
        noise = random.normal(size=(classes, n, width)) * scale
        rows = centres[:, None] + noise + shift * np.eye(width)[0]
        return rows.reshape(classes * n, width).astype(np.float32)

    return draw


def blocks_of(*sets: np.ndarray, classes: int = 1) -> Blocks:
    of = [
        number * classes + np.repeat(np.arange(classes), len(rows) // classes)
        for number, rows in enumerate(sets)
    ]
    return kernel_blocks(np.concatenate(sets), np.concatenate(of))


def groups(number: int, classes: int = 1) -> np.ndarray:
    return np.arange(classes) + number * classes


def test_the_estimate_is_the_mean_over_different_images_written_out() -> None:
    draw = source(0)
    a, b = draw(6, 0), draw(5, 1)
    found = squared_distance(blocks_of(a, b), groups(0), groups(1))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x.astype(float) @ y.astype(float)) / 20 + 1) ** 3

    def within(rows: np.ndarray) -> float:
        return float(
            np.mean([kernel(x, y) for x in rows for y in rows if not np.array_equal(x, y)])
        )

    across = np.mean([kernel(x, y) for x in a for y in b])
    assert found.value == pytest.approx(within(a) + within(b) - 2 * across, rel=1e-5)


def test_the_kernel_of_a_clip_leaves_out_pairs_of_an_image_with_itself() -> None:
    rows = np.eye(8, dtype=np.float32)  # all equally far apart
    assert rbf(rows, rows)[0, 1] == pytest.approx(np.exp(-2 / 200))
    blocks = kernel_blocks(rows, np.repeat([0, 1], 4), rbf)
    assert squared_distance(blocks, groups(0), groups(1)).value == pytest.approx(0, abs=1e-9)


def test_many_rows_give_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = source(1)
    sets = draw(30, 0), draw(25, 0.5)
    whole = squared_distance(blocks_of(*sets), groups(0), groups(1))
    monkeypatch.setattr("trainer.quality.distances.mmd._CHUNK", 7)
    parts = squared_distance(blocks_of(*sets), groups(0), groups(1))
    assert (parts.value, parts.se) == pytest.approx((whole.value, whole.se))


def test_a_group_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="a group has 3 rows; at least 4 are needed"):
        kernel_blocks(np.zeros((7, 2), np.float32), np.array([0] * 4 + [1] * 3))


def simulated(
    n: int, m: int, shift: float, *, classes: int = 1, fades: float = 8.0, times: int = 150
) -> list[Distance]:
    draw = source(2, classes=classes, fades=fades)
    return [
        squared_distance(
            blocks_of(draw(n, 0), draw(m, shift), classes=classes),
            groups(0, classes),
            groups(1, classes),
        )
        for _ in range(times)
    ]


@pytest.mark.parametrize(("classes", "fades"), [(1, 50.0), (1, 2.0), (6, 8.0)])
def test_equal_sets_are_at_distance_0_and_hardly_ever_told_apart(
    classes: int, fades: float
) -> None:
    found = simulated(8, 16, 0.0, classes=classes, fades=fades)
    values = np.array([each.value for each in found])
    assert abs(values.mean()) < 4 * values.std() / len(values) ** 0.5
    assert sum(each.excludes_zero for each in found) <= 0.05 * len(found)
    assert 0.9 < np.mean([each.se for each in found]) / values.std() < 2.2


@pytest.mark.parametrize(
    ("classes", "fades", "shift"), [(1, 50.0, 1.0), (1, 1.0, 0.3), (1, 1.0, 1.0), (6, 4.0, 0.3)]
)
def test_the_interval_holds_the_true_distance(classes: int, fades: float, shift: float) -> None:
    truth = np.mean(
        [each.value for each in simulated(150, 150, shift, classes=classes, fades=fades, times=12)]
    )
    found = simulated(10, 20, shift, classes=classes, fades=fades)
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.92


def compared(shifts: tuple[float, float], *, times: int = 150) -> list[Distance]:
    draw = source(3, classes=3)
    first, second, third = (groups(number, 3) for number in range(3))
    return [
        difference(
            blocks_of(draw(12, 0), draw(10, shifts[0]), draw(15, shifts[1]), classes=3),
            first,
            second,
            third,
        )
        for _ in range(times)
    ]


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_two_equal_sources_are_not_ranked(shift: float) -> None:
    found = compared((shift, shift))
    assert np.mean([each.excludes_zero for each in found]) <= 0.06
    values = np.array([each.value for each in found])
    assert abs(values.mean()) < 4 * values.std() / len(values) ** 0.5


def test_a_source_that_is_further_away_is_found() -> None:
    assert np.mean([each.low > 0 for each in compared((2.0, 0.3))]) > 0.9
    assert np.mean([each.high < 0 for each in compared((0.3, 2.0))]) > 0.9


def test_pairs_within_a_class_do_not_make_equal_sets_look_close() -> None:
    """Pooled rows would: of 12 equal pairs in 144, those of an image with itself are missing."""
    draw = source(4, classes=12, fades=50.0)
    found = []
    for _ in range(60):
        rows = draw(4, 0), draw(4, 0)
        blocks = kernel_blocks(np.concatenate(rows), np.repeat(np.arange(24), 4), polynomial)
        found.append(squared_distance(blocks, groups(0, 12), groups(1, 12)).value)
    assert abs(np.mean(found)) < 4 * np.std(found) / len(found) ** 0.5


def test_the_variance_where_rows_have_no_effect_written_out() -> None:
    n, m, within, other, across = 6, 9, 0.5, 0.7, 0.3
    of = np.repeat([0, 1], [n, m])
    rest = np.array([[within, across], [across, other]])
    sizes = np.array([n, m], dtype=float)
    blocks = Blocks(of, sizes, np.zeros((n + m, 2)), np.zeros((2, 2)), rest)
    pairs = 2 * within / (n * (n - 1)) + 2 * other / (m * (m - 1)) + 4 * across / (n * m)
    noise = (across / m + within / (n - 2)) / n + (across / n + other / (m - 2)) / m
    found = squared_distance(blocks, groups(0), groups(1))
    assert found.se == pytest.approx((pairs + 4 * noise / 2) ** 0.5)

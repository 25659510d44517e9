"""Density, coverage, shares and the Frechet distance are what their papers say."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.quality.distances.fidelity import density_and_coverage, frechet, why_no_frechet, wilson


def rows(seed: int, n: int, *, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (shift + spread * random.normal(size=(n, 6))).astype(np.float32)


def test_equal_sets_have_density_1_and_are_covered() -> None:
    found = [density_and_coverage(rows(seed, 200), rows(seed + 50, 200)) for seed in range(5)]
    density, coverage = np.mean(found, axis=0)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)  # the paper's expectation, for k = 5


def test_density_and_coverage_written_out_on_a_line() -> None:
    real = np.arange(7, dtype=np.float32)[:, None]  # the fifth neighbour of 0 is at 5, of 3 at 3
    made = np.array([[0.0], [-4.5]], np.float32)
    # 0.0 lies in the balls around 0 to 3 and, at their edges, 4 and 5 but not 6 (reach 5, 4, 3...).
    reach = [5, 4, 3, 3, 3, 4, 5]
    inside = [[abs(x - y) <= r for x, r in zip(range(7), reach, strict=True)] for y in (0.0, -4.5)]
    density, coverage = density_and_coverage(real, made)
    assert density == pytest.approx(np.sum(inside) / (5 * 2))
    assert coverage == pytest.approx(np.mean(np.any(inside, axis=0)))


def test_images_in_one_place_are_dense_and_cover_little(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rows(0, 200)
    dense = density_and_coverage(real, rows(1, 200, spread=0.1))
    far = density_and_coverage(real, rows(2, 200, shift=50.0))
    assert dense[0] > 1.5
    assert dense[1] < 0.9
    assert far == (0.0, 0.0)
    monkeypatch.setattr("trainer.quality.distances.fidelity._CHUNK", 7)
    assert density_and_coverage(real, rows(1, 200, spread=0.1)) == dense


def test_the_frechet_distance_of_two_gaussians_is_known() -> None:
    one, two = rows(3, 20000), rows(4, 20000, shift=2.0, spread=3.0)
    # 6 axes: (2 - 0)^2 + (3 - 1)^2 each.
    assert frechet(one, two) == pytest.approx(6 * 8, rel=0.05)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_few_images_is_refused_with_the_reason() -> None:
    assert why_no_frechet(2000, 2000) == ""
    assert "at least 2000 images on each side, and there are 5000 and 1999" in why_no_frechet(
        5000, 1999
    )


def test_the_interval_of_a_share_is_wilsons() -> None:
    found = wilson(9, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)
    assert wilson(3, 3).high == 1

"""What synthetic images are worth in real ones."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.analysis.cellkey import CellKey
from trainer.analysis.exchange import Exchange, exchange
from trainer.analysis.scores import CellScores

ARM = CellKey("cnn", "add:1", "updates", "add", 1.0, "synthetic")
REAL = CellKey("cnn", "real", "both")
PER_CLASS = {
    REAL: 30.0,
    CellKey("cnn", "fewer:0.5", "updates", "fewer", 0.5): 15.0,
    CellKey("cnn", "more:1", "updates", "more", 1.0): 60.0,
    CellKey("cnn", "more:1", "epochs", "more", 1.0): 60.0,
}


def cell(level: float, noise: np.ndarray) -> dict[str, CellScores]:
    return {"f1": CellScores(tuple(range(len(noise))), level + noise, np.zeros((len(noise), 2)))}


def worth(
    arm: float,
    *,
    by_doubling: float = 0.10,
    noise: float = 0.0,
    seed: int = 0,
    seeds: int = 5,
    without: tuple[str, ...] = ("epochs",),
) -> Exchange | None:
    """The exchange rate where real only has 0.5 and each doubling adds `by_doubling`."""
    random = np.random.RandomState(seed)
    scores = {
        key: cell(
            0.5 + by_doubling * np.log2(number / 30), random.normal(0, max(noise, 1e-9), seeds)
        )
        for key, number in PER_CLASS.items()
        if key.regime not in without and key.budget not in without
    }
    scores[ARM] = cell(arm, random.normal(0, max(noise, 1e-9), seeds))
    return exchange(ARM, scores, PER_CLASS | {ARM: 30.0}, None)


@pytest.mark.parametrize(
    ("arm", "worth_images"), [(0.5, 0.0), (0.5 + 0.1 * np.log2(37 / 30), 7.0), (0.45, -8.787)]
)
def test_without_noise_it_is_read_off_the_curve(arm: float, worth_images: float) -> None:
    """On the curve: 37 images for 30 + 7; half a doubling down is 30 / sqrt(2) = 21.2."""
    found = worth(arm)
    assert found is not None
    assert found.value == pytest.approx(worth_images, abs=0.05)
    assert (found.base, found.measured_to) == (30, 60)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    grids, hits = 80, 0
    for seed in range(grids):
        found = worth(0.5 + 0.1 * np.log2(40 / 30), noise=0.02, seed=seed)
        assert found is not None
        low, high = (found.low is None or found.low <= 10), (found.high is None or found.high >= 10)
        hits += low and high
    assert hits / grids >= 0.86  # 99.9% of such counts where the truth is 95%


def test_what_lies_past_the_end_of_the_curve_is_open_ended() -> None:
    above = worth(0.5 + 0.1 * 3)  # three doublings, the curve ends after two
    assert above is not None
    assert (above.value, above.low, above.high) == (None, pytest.approx(90), None)
    below = worth(0.2)
    assert below is not None
    assert (below.value, below.low, below.high) == (None, None, pytest.approx(-15))
    noisy = worth(0.5 + 0.1 * 1.9, noise=0.03)
    assert noisy is not None
    assert noisy.high is None
    assert noisy.low is not None


def test_a_flat_curve_says_nothing() -> None:
    found = worth(0.52, by_doubling=0.0, noise=0.03)
    assert found is not None
    assert (found.low, found.high) == (None, None)


def test_fewer_alone_is_a_curve_and_the_other_budget_is_not() -> None:
    assert worth(0.52, without=("more", "epochs")) is not None
    assert worth(0.52, without=("more", "fewer", "updates")) is None


def test_one_seed_has_no_exchange_rate() -> None:
    assert worth(0.52, seeds=1) is None

"""How often the verdicts raise a false alarm on real images that cannot make a difference.

    python benchmarks/real_nulls.py [--quick] [--grids 200] [--seeds 5] [--test 50]

False alarms on simulated grids are only as good as the simulation. Here images, trainings and
mistakes are real: scikit-learn's 1,797 handwritten digits, a network with one hidden layer on their
pixels, and random halves of the same images of which one is called synthetic. Cells: real, half of
it replaced (swap:0.5), and all of it (swap:1, the headline), each with as many images. The verdicts
are the trainer's own; the training is scikit-learn's, since thousands of runs have to be cheap.

Two rows. "halves drawn anew": every seed draws its own halves, so that nothing distinguishes the
cells and at most 5% of grids may show a headline that helps or hurts. "halves fixed": one pair of
halves for all seeds of a grid, as a grid has one folder of real images. There one half really is a
little better than the other, whatever the seeds; the rate shows what the words "with these training
images" in the report mean, and is no error of the test.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.analysis.cellkey import CellKey
from trainer.analysis.comparisons import judge

CLASSES = 10
SHARES = {
    CellKey("mlp", "real", "both"): 0.0,
    CellKey("mlp", "swap:0.5", "both", "swap", 0.5, "synthetic"): 0.5,
    CellKey("mlp", "swap:1", "both", "swap", 1.0, "synthetic"): 1.0,
}


@dataclass(frozen=True)
class Setup:
    """Images per class of each half and of the test set; seeds of a grid; passes of a training."""

    seeds: int = 5
    half: int = 15
    test: int = 50
    passes: int = 12


def one_grid(setup: Setup, number: int, *, anew: bool) -> str:
    """The headline's verdict in a grid on images drawn for it."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.RandomState(number)
    order = [random.permutation(np.nonzero(labels == label)[0]) for label in range(CLASSES)]
    tests = np.concatenate([rows[: setup.test] for rows in order])
    pool = [rows[setup.test :] for rows in order]
    predicted: dict[CellKey, dict[int, np.ndarray]] = {key: {} for key in SHARES}
    halves = draw_halves(pool, setup.half, random)
    for seed in range(setup.seeds):
        if anew:
            halves = draw_halves(pool, setup.half, random)
        for key, share in SHARES.items():
            rows = mixed(halves, share)
            network = fitted(images[rows] / 16, labels[rows], seed=seed, passes=setup.passes)
            predicted[key][seed] = network.predict(images[tests] / 16)
    found = judge(labels[tests], predicted, CLASSES)
    return next(each.verdict for each in found.comparisons.values() if each.is_headline)


def draw_halves(
    pool: Sequence[np.ndarray], half: int, random: np.random.RandomState
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows of `half` images of each class, and of as many others."""
    drawn = [random.permutation(rows)[: 2 * half] for rows in pool]
    return [rows[:half] for rows in drawn], [rows[half:] for rows in drawn]


def mixed(halves: tuple[list[np.ndarray], list[np.ndarray]], share: float) -> np.ndarray:
    """The first half with a share of each class replaced by the second."""
    rows = []
    for kept, other in zip(*halves, strict=True):
        swapped = round(share * len(kept))
        rows += [kept[swapped:], other[:swapped]]
    return np.concatenate(rows)


def fitted(images: np.ndarray, labels: np.ndarray, *, seed: int, passes: int) -> MLPClassifier:
    """A network trained for a fixed number of passes; the seed sets weights and batch order."""
    network = MLPClassifier((32,), max_iter=passes, batch_size=16, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(images, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms on real images without an effect.")
    parser.add_argument("--grids", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=int, default=50, help="test images per class, at most 140")
    parser.add_argument("--quick", action="store_true", help="10 grids of 3 seeds")
    options = parser.parse_args()
    grids = 10 if options.quick else options.grids
    setup = Setup(seeds=3 if options.quick else options.seeds, test=options.test)
    for name, anew in (("halves drawn anew", True), ("halves fixed", False)):
        started_s = time.perf_counter()
        verdicts = [one_grid(setup, number, anew=anew) for number in range(grids)]
        alarms = sum(each in ("better", "worse") for each in verdicts)
        interval = binomtest(alarms, grids).proportion_ci(0.95)
        print(
            f"{name:18s} {alarms} of {grids} grids with a false headline: {alarms / grids:.3f} "
            f"(95% {interval.low:.3f} to {interval.high:.3f}), "
            f"{time.perf_counter() - started_s:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

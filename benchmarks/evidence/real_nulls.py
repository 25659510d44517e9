"""How often the verdicts raise a false alarm on real images that cannot make a difference.

    python benchmarks/evidence/real_nulls.py [--quick] [--grids 200] [--seeds 5] [--test 50]

False alarms on simulated grids are only as good as the simulation. Here images, trainings and
mistakes are real: scikit-learn's 1,797 handwritten digits, a network with one hidden layer on their
pixels, and random halves of the same images of which one is called synthetic. Cells: real, half of
it replaced (swap:0.5), and all of it (swap:1, the headline), each with as many images. The verdicts
are the trainer's own; the training is a few lines of NumPy that train all runs of a grid at once,
since thousands of runs have to be cheap.

Three rows. "halves redrawn": every seed draws its own images from one pool, by the trainer's own
functions for --redraw, and the other half from what is left of the pool. Nothing distinguishes the
cells, and at most 5% of grids may show a headline that helps or hurts. "halves fixed": one pair of
halves for all seeds of a grid, as a grid has one folder of real images. There one half really is a
little better than the other, whatever the seeds; the rate shows what the words "with these training
images" in the report mean, and is no error of the test. "one folder": every seed splits one folder
anew, as --test-share 0.25 does, and draws as many other images as the second half; test images
differ, splits overlap, and the correction for that has to keep to 5% (see
trainer.analysis.statistics.stats).

Measured with 200 grids of 5 seeds on 500 test images, accuracy 91%: halves redrawn, 6 false
headlines, 3.0% (95% 1.1 to 6.4); halves fixed, 38, 19.0% (13.8 to 25.1); one folder of 200 images,
3, 1.5% (0.3 to 4.3). A grid takes 0.3 s of a busy core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.analysis.cellkey import CellKey
from trainer.analysis.comparisons import judge
from trainer.arms import parse_arm
from trainer.data.cells import cell_images
from trainer.data.dataset import Dataset
from trainer.data.samples import MORE, REAL, Sample
from trainer.data.splits.redraw import redrawn, resplit

CLASSES, HIDDEN, BATCH = 10, 32, 15
RATE, MOMENTUM = 0.1, 0.9
TEST_SHARE = 0.25
Halves = tuple[list[np.ndarray], list[np.ndarray]]
ROWS = ("halves redrawn", "halves fixed", "one folder")
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
    passes: int = 20


def one_grid(setup: Setup, number: int, *, row: str) -> tuple[str, float]:
    """The headline's verdict in a grid on images drawn for it, and the accuracy of its runs."""
    images, labels = load_digits(return_X_y=True)
    runs, rows, seeds, tests = [], [], [], []
    for place, (halves, tested) in enumerate(drawn_for(setup, labels, number, row)):
        for key, share in SHARES.items():
            runs.append((key, place))
            rows.append(mixed(halves, share))
            seeds.append(number * setup.seeds + place)
            tests.append(tested)
    drawn, asked = np.stack(rows), np.stack(tests)
    network = fitted(images[drawn] / 16, labels[drawn], seeds=seeds, passes=setup.passes)
    guesses = scores(network, images[asked] / 16)[0].argmax(axis=-1)
    predicted: dict[CellKey, dict[int, np.ndarray]] = {key: {} for key in SHARES}
    for (key, seed), guess in zip(runs, guesses, strict=True):
        predicted[key][seed] = guess
    overlap = asked.shape[1] / drawn.shape[1] if row == "one folder" else None
    found = judge(labels[asked[0]], predicted, CLASSES, overlap=overlap)
    verdict = next(each.verdict for each in found.comparisons.values() if each.is_headline)
    return verdict, float((guesses == labels[asked]).mean())


def drawn_for(
    setup: Setup, labels: np.ndarray, number: int, row: str
) -> Iterator[tuple[Halves, np.ndarray]]:
    """For each seed of a grid both halves, and the rows of its test images, class by class."""
    random = np.random.RandomState(number)
    order = [random.permutation(np.nonzero(labels == label)[0]) for label in range(CLASSES)]
    size = round(setup.half / (1 - TEST_SHARE)) if row == "one folder" else setup.test
    aside, pool = [rows[:size] for rows in order], as_dataset([rows[size:] for rows in order])
    halves = draw_halves(pool, setup.half, number * setup.seeds)
    for seed in range(number * setup.seeds, (number + 1) * setup.seeds):
        if row != "halves fixed":
            halves = draw_halves(pool, setup.half, seed)
        if row == "one folder":
            train, tested = split_folder(aside, seed)
            yield (train, halves[1]), np.concatenate(tested)
        else:
            yield halves, np.concatenate(aside)


def draw_halves(dataset: Dataset, half: int, seed: int) -> Halves:
    """Rows of `half` images of each class, and of as many others, as --redraw draws them for the
    arms real and more:1."""
    cell = cell_images(
        redrawn(dataset, half, seed=seed), arm=parse_arm("more:1"), seed=seed, validation_share=0
    )
    return _rows(cell.train, dataset, REAL), _rows(cell.train, dataset, MORE)


def split_folder(folder: Sequence[np.ndarray], seed: int) -> Halves:
    """Rows of the training and of the test images of each class, as --test-share splits them."""
    split = resplit(as_dataset(folder), TEST_SHARE, seed=seed)
    return _rows(split.train, split, REAL), _rows(split.test, split, REAL)


def _rows(samples: Sequence[Sample], dataset: Dataset, source: str) -> list[np.ndarray]:
    return [
        np.array([int(each.file) for each in samples if (each.label, each.source) == wanted])
        for wanted in ((label, source) for label in dataset.classes)
    ]


def as_dataset(pool: Sequence[np.ndarray]) -> Dataset:
    """Rows of each class as samples whose file is the number of the row."""
    return Dataset(
        classes=tuple(map(str, range(len(pool)))),
        train=tuple(
            Sample(Path(f"{row}"), f"{row}", f"{label}", f"{row}")
            for label, rows in enumerate(pool)
            for row in rows
        ),
        test=(),
        synthetic=(),
    )


def mixed(halves: Halves, share: float) -> np.ndarray:
    """The first half with a share of each class replaced by the second."""
    rows = []
    for kept, other in zip(*halves, strict=True):
        swapped = round(share * len(kept))
        rows += [kept[swapped:], other[:swapped]]
    return np.concatenate(rows)


def fitted(
    images: np.ndarray, labels: np.ndarray, *, seeds: Sequence[int], passes: int
) -> list[np.ndarray]:
    """One network a run, from images [R, n, pixels] and labels [R, n]: stochastic gradient descent
    with momentum on the cross-entropy. A run's seed sets its weights and the order of its images.
    """
    streams = [np.random.RandomState(seed) for seed in seeds]
    shapes = ((images.shape[-1], HIDDEN), (HIDDEN, CLASSES))
    network = [
        part
        for rows, columns in shapes
        for part in (
            np.stack([each.normal(0, (2 / rows) ** 0.5, (rows, columns)) for each in streams]),
            np.zeros((len(seeds), 1, columns)),
        )
    ]
    moving = [np.zeros_like(part) for part in network]
    wanted, run = np.eye(CLASSES)[labels], np.arange(len(seeds))[:, None]
    for _ in range(passes):
        order = np.stack([each.permutation(labels.shape[1]) for each in streams])
        for first in range(0, order.shape[1], BATCH):
            batch = order[:, first : first + BATCH]
            slopes = gradients(network, images[run, batch], wanted[run, batch])
            for part, speed, slope in zip(network, moving, slopes, strict=True):
                speed *= MOMENTUM
                speed -= RATE * slope
                part += speed
    return network


def scores(network: Sequence[np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [R, n, classes], and what the hidden layer gives [R, n, HIDDEN]."""
    inner = np.maximum(images @ network[0] + network[1], 0)
    return inner @ network[2] + network[3], inner


def gradients(
    network: Sequence[np.ndarray], images: np.ndarray, wanted: np.ndarray
) -> list[np.ndarray]:
    """Of the mean cross-entropy of a batch, one for each part of the network."""
    logits, inner = scores(network, images)
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    outer = (chances / chances.sum(axis=-1, keepdims=True) - wanted) / images.shape[1]
    back = (outer @ network[2].swapaxes(1, 2)) * (inner > 0)
    return [
        images.swapaxes(1, 2) @ back,
        back.sum(axis=1, keepdims=True),
        inner.swapaxes(1, 2) @ outer,
        outer.sum(axis=1, keepdims=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms on real images without an effect.")
    parser.add_argument("--grids", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=int, default=50, help="test images per class, at most 140")
    parser.add_argument("--quick", action="store_true", help="10 grids of 3 seeds")
    options = parser.parse_args()
    grids = 10 if options.quick else options.grids
    setup = Setup(seeds=3 if options.quick else options.seeds, test=options.test)
    for name in ROWS:
        started_s = time.perf_counter()
        found = [one_grid(setup, number, row=name) for number in range(grids)]
        alarms = sum(verdict in ("better", "worse") for verdict, _ in found)
        interval = binomtest(alarms, grids).proportion_ci(0.95)
        print(
            f"{name:18s} {alarms} of {grids} grids with a false headline: {alarms / grids:.3f} "
            f"(95% {interval.low:.3f} to {interval.high:.3f}), mean accuracy "
            f"{np.mean([accuracy for _, accuracy in found]):.3f}, "
            f"{time.perf_counter() - started_s:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

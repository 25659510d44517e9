"""Real images drawn anew for each seed: training images from a pool, or all from one folder.

Seeds that all train on the same real images say nothing about other images. With --redraw each seed
draws its own from one pool, the training images and those of --more-real, never from the test
images. All arms of a seed share the draw. What is left of the pool are the additional real images
of that seed, for arms more:AMOUNT.

Where there is one folder and no test set, each seed splits it at random with --test-share. Splits
overlap, so their scores vary less than those of independent data sets would; the analysis corrects
for that (Nadeau and Bengio 2003; see trainer.analysis.statistics.stats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trainer.data.cells import share_of, shuffled
from trainer.data.dataset import Dataset
from trainer.data.samples import MORE, REAL, Sample, quoted
from trainer.errors import DataError


def redrawn(dataset: Dataset, per_class: int, *, seed: int) -> Dataset:
    """The data set of one seed: `per_class` real training images of each class, and the others as
    additional ones.

    Files from --more-real get "more/" before their names, since training images may have the same.

    Raises:
        DataError: a class has fewer images than that.
    """
    pool = pools(dataset)
    short = [label for label, samples in pool.items() if len(samples) < per_class]
    if short:
        fewest = min(len(pool[label]) for label in short)
        raise DataError(
            f"--redraw {per_class} asks for more real training images than there are of "
            f"{quoted(short)} (fewest: {fewest}); take a smaller number, or add images with "
            "--more-real"
        )
    drawn: list[Sample] = []
    rest: list[Sample] = []
    for label, samples in pool.items():
        order = shuffled(samples, "redraw", seed, label)
        drawn += sorted((replace(each, source=REAL) for each in order[:per_class]), key=_name)
        rest += sorted((replace(each, source=MORE) for each in order[per_class:]), key=_name)
    return replace(dataset, train=tuple(drawn), more=tuple(rest))


def resplit(dataset: Dataset, test_share: float, *, seed: int) -> Dataset:
    """The data set of one seed: `test_share` of each class's real images to test on, the others to
    train on. Every seed has as many of each class.

    Raises:
        DataError: a class has too few images to be in both parts.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    for label in dataset.classes:
        samples = dataset.pool(REAL, label)
        count = share_of(test_share, len(samples))
        if not 0 < count < len(samples):
            raise DataError(
                f"class '{label}' has {len(samples)} images, of which --test-share {test_share:g} "
                f"tests on {count}; each class needs some to train and some to test on"
            )
        order = shuffled(samples, "split", seed, label)
        test += sorted(order[:count], key=_name)
        train += sorted(order[count:], key=_name)
    return replace(dataset, train=tuple(train), test=tuple(test))


def pools(dataset: Dataset) -> Mapping[str, list[Sample]]:
    """All real images of each class that a seed may draw."""
    return {
        label: [
            *dataset.pool(REAL, label),
            *(replace(each, file=f"{MORE}/{each.file}") for each in dataset.pool(MORE, label)),
        ]
        for label in dataset.classes
    }


def _name(sample: Sample) -> str:
    return sample.file

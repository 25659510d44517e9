"""Real training images drawn anew for each seed, where there are more than a cell needs.

Seeds that all train on the same real images say nothing about other images. With --redraw each seed
draws its own from one pool, the training images and those of --more-real, never from the test
images. All arms of a seed share the draw. What is left of the pool are the additional real images
of that seed, for arms more:AMOUNT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trainer.data.cells import shuffled
from trainer.data.dataset import MORE, REAL, Dataset, Sample, quoted
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

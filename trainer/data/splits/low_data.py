"""Splits of one set of images with fewer and fewer training images: for the question from how many
real images on synthetic ones still help.

    <out>/1/train/<class>/   <out>/1/test/<class>/   <out>/5/...   <out>/10/...

All have the same test images, and the training images of a smaller number are among those of every
larger one. Without groups each folder is what `split --train N` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from trainer.data.samples import Sample
from trainer.data.splits.split import Split, SplitConfig, in_order, plan_split, write_splits
from trainer.errors import ConfigError


def write_low_data(config: SplitConfig, counts: Sequence[int]) -> dict[int, Split]:
    """Writes a split into a folder of its own for each number of training images per class, all or
    none of them; `config.train` is not used.

    Raises:
        ConfigError: a number is below 1 or occurs twice, or a long tail was asked for as well.
        DataError: as `write_split`.
    """
    if not counts or min(counts) < 1 or len(set(counts)) < len(counts):
        given = ",".join(map(str, counts)) or "empty"
        raise ConfigError(
            f"low_data is {given}; expected different whole numbers of at least 1, as in 1,5,10"
        )
    if config.long_tail is not None:
        raise ConfigError("low_data and long_tail both say how many to train on; choose one")
    largest = replace(config, train=max(counts))

    def plan() -> dict[str, Split]:
        whole = plan_split(largest)
        return {str(count): _smaller(whole, count) for count in sorted(counts)}

    written = write_splits(largest, plan)
    return {count: written[str(count)] for count in sorted(counts)}


def _smaller(whole: Split, count: int) -> Split:
    """The split with the first training images of each class in the seed's order."""
    config, taken, kept = replace(whole.config, train=count), Counter[str](), list[Sample]()
    for sample in in_order(whole.parts["train"], config.seed):
        taken[sample.label] += 1
        if taken[sample.label] <= count:
            kept.append(sample)
    kept.sort(key=lambda each: (each.label, each.file))
    return replace(whole, config=config, parts={**whole.parts, "train": tuple(kept)})

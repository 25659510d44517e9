"""The images of one cell: what an arm trains on at one seed, known before training.

The seed determines, through separate random streams, which real images are held out for validation,
which ones a share keeps, which copies are made, and which synthetic or additional real images are
drawn. So the cells of one seed are paired: all share the validation images, and the draw of a
larger amount contains that of every smaller one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, zip_longest

import numpy as np

from trainer.arms import Arm, resolved_source
from trainer.data.copies import COPY, TURNS, copies_of
from trainer.data.dataset import Dataset
from trainer.data.samples import MORE, REAL, Sample, fingerprint, quoted
from trainer.data.splits.folds import group_of, hold_out
from trainer.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class CellImages:
    """The images of one cell at one seed: `train` has the real images first, then the added ones;
    `tests` are further test sets by name."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    tests: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    @property
    def seen_whole(self) -> tuple[Sample, ...]:
        """The images that are judged, never trained on."""
        return (*self.validation, *self.test, *chain.from_iterable(self.tests.values()))

    @property
    def all(self) -> tuple[Sample, ...]:
        """Every image that the run uses."""
        return (*self.train, *self.seen_whole)

    @property
    def real(self) -> tuple[Sample, ...]:
        """The real training images among those trained on, without copies and additional real
        images."""
        return tuple(sample for sample in self.train if sample.source == REAL)

    @property
    def synthetic(self) -> tuple[Sample, ...]:
        """The synthetic images trained on."""
        return tuple(sample for sample in self.train if sample.source not in (REAL, COPY, MORE))

    def count(self, source: str) -> int:
        """How many of the images trained on are "real", "copy", "more", or of the named synthetic
        source."""
        return sum(sample.source == source for sample in self.train)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over every image, its origin and its use."""
        parts = [fingerprint(part) for part in (self.train, self.validation, self.test)]
        parts += [f"{name}\0{fingerprint(part)}" for name, part in sorted(self.tests.items())]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Wanted:
    """How many images of one class an arm trains on."""

    real: int
    added: int


def wanted_counts(arm: Arm, *, real: int, held_out: int, largest: int = 0) -> Wanted:
    """What an arm uses of a class with `real` real training images, `held_out` of them for
    validation; the largest class trains on `largest`."""
    trained = real - held_out
    if arm.regime == "balance":
        return Wanted(trained, max(0, largest - trained))
    if arm.regime == "fill":
        return Wanted(trained, max(0, int(arm.amount) - trained))
    if arm.regime == "swap":
        stay = share_of(1 - arm.amount, trained)
        return Wanted(stay, trained - stay)
    if arm.regime == "fewer":
        return Wanted(share_of(arm.amount, trained), 0)
    if arm.regime == "only":
        return Wanted(0, share_of(arm.amount, real))
    return Wanted(trained, share_of(arm.amount, real))


def share_of(amount: float, count: int) -> int:
    """`amount` times `count`, halves rounded up."""
    return math.floor(round(amount * count, 9) + 0.5)


def held_out(real: int, validation_share: float) -> int:
    """How many of a class's real training images are for validation: none for a share of 0, else at
    least one, at most all but one."""
    if not validation_share:
        return 0
    return min(max(1, share_of(validation_share, real)), real - 1)


@dataclass(frozen=True)
class Shortage:
    """A class of which an arm gets fewer images than it asks for: `there` instead of `wanted`."""

    arm: str
    label: str
    wanted: int
    there: int


def check_counts(
    dataset: Dataset, arms: Iterable[Arm], *, validation_share: float, may_lack: float = 0.0
) -> tuple[Shortage, ...]:
    """Makes sure that every cell of a grid can be filled, and says where it cannot quite.

    `may_lack` is the share of an arm's images of a class that may be missing, in 0..1.

    Raises:
        DataError: a class has fewer than two training images, or too few images for an arm, or an
            arm adds nothing or leaves nothing.
        ConfigError: an arm draws from an unknown source.
    """
    real = {label: len(dataset.pool(REAL, label)) for label in dataset.classes}
    single = [label for label in dataset.classes if real[label] < (2 if validation_share else 1)]
    if single:
        raise DataError(
            f"class {quoted(single)} has {real[single[0]]} training images; each needs at least 2, "
            "one to train and one to validate"
        )
    found: dict[tuple[str, str], Shortage] = {}
    for arm in arms:
        for held in _possibly_held(dataset, validation_share):
            largest = max((real[label] - held[label] for label in dataset.classes), default=0)
            wanted = {
                label: wanted_counts(arm, real=real[label], held_out=held[label], largest=largest)
                for label in dataset.classes
            }
            for each in _check_arm(dataset, arm, wanted, may_lack):
                found[each.arm, each.label] = each
    return tuple(found.values())


def _possibly_held(dataset: Dataset, share: float) -> list[dict[str, int]]:
    """How many images of each class validate: one answer; with groups, the fewest and the most."""
    exact = {label: held_out(len(dataset.pool(REAL, label)), share) for label in dataset.classes}
    if not share or not any(sample.group for sample in dataset.train):
        return [exact]
    smallest = {
        label: min(Counter(group_of(each) for each in dataset.pool(REAL, label)).values())
        for label in dataset.classes
    }
    return [
        dict.fromkeys(dataset.classes, 1),
        {label: max(count, smallest[label]) for label, count in exact.items()},
    ]


def _check_arm(
    dataset: Dataset, arm: Arm, wanted: dict[str, Wanted], may_lack: float
) -> list[Shortage]:
    if arm.regime == "balance" and not any(each.added for each in wanted.values()):
        raise DataError(f"arm {arm.name} has nothing to fill: all classes have as many images")
    if arm.amount and arm.regime != "fewer" and not any(each.added for each in wanted.values()):
        raise DataError(f"arm {arm.name} adds no image to any class; take a larger amount")
    empty = [label for label, each in wanted.items() if not each.real + each.added]
    if empty:
        raise DataError(
            f"arm {arm.name} leaves no image to train on in class {quoted(empty)}; take a larger "
            "share"
        )
    there, kind, way_out = _available(dataset, arm, wanted)
    short = [
        Shortage(arm.name, label, each.added, there[label])
        for label, each in wanted.items()
        if there[label] < each.added
    ]
    if any(each.there < (1 - may_lack) * each.wanted or not each.there for each in short):
        texts = [f"'{each.label}' has {each.there}, needs {each.wanted}" for each in short[:_SHOWN]]
        more = f" and {len(short) - _SHOWN} more classes" * (len(short) > _SHOWN)
        raise DataError(
            f"too few {kind} for arm {arm.name}: {'; '.join(texts)}{more}; {way_out}, or take what "
            "there is with --cap-amounts"
        )
    return short


def _available(
    dataset: Dataset, arm: Arm, wanted: dict[str, Wanted]
) -> tuple[dict[str, int], str, str]:
    """Images per class that the arm could draw, what they are, and what to do if they are too
    few."""
    if arm.regime == "copies":
        there = {label: each.real * len(TURNS) for label, each in wanted.items()}
        return there, f"copies ({len(TURNS)} of an image)", "ask for a smaller amount"
    if arm.regime == "more":
        names, kind, way_out = [MORE], "additional real images", "ask for a smaller amount"
    else:
        names = resolved_source(arm, dataset.sources).split("+")
        kind, way_out = "synthetic images", "generate more, or ask for a smaller amount"
    there = {
        label: sum(len(dataset.pool(name, label)) for name in names) for label in dataset.classes
    }
    return there, kind, way_out


def cell_images(dataset: Dataset, *, arm: Arm, seed: int, validation_share: float) -> CellImages:
    """The images of one cell. The validation images depend only on the seed, and no arm trains on
    them."""
    kept: list[Sample] = []
    held: list[Sample] = []
    added: list[Sample] = []
    validation = _validation(dataset, seed, validation_share)
    largest = max(
        (len(dataset.pool(REAL, label)) - len(validation[label]) for label in dataset.classes),
        default=0,
    )
    for label in dataset.classes:
        samples, chosen = dataset.pool(REAL, label), set(validation[label])
        wanted = wanted_counts(arm, real=len(samples), held_out=len(chosen), largest=largest)
        held += sorted(chosen, key=_by_file)
        trained = sorted((each for each in samples if each not in chosen), key=_by_file)
        kept += sorted(shuffled(trained, "share", seed, label)[: wanted.real], key=_by_file)
        added += _added(dataset, arm, seed, label, trained)[: wanted.added]
    return CellImages(
        train=(*kept, *added), validation=tuple(held), test=dataset.test, tests=dataset.tests
    )


def _validation(dataset: Dataset, seed: int, share: float) -> dict[str, list[Sample]]:
    """The images of each class that are held out at this seed, in whole groups."""
    if not share:
        return {label: [] for label in dataset.classes}
    orders = {
        label: shuffled(dataset.pool(REAL, label), "validation", seed, label)
        for label in dataset.classes
    }
    return hold_out(orders, lambda count: held_out(count, share))


def _added(
    dataset: Dataset, arm: Arm, seed: int, label: str, trained: Sequence[Sample]
) -> list[Sample]:
    """Everything that an arm could add to a class, in drawing order."""
    if arm.regime == "copies":
        return copies_of(shuffled(trained, "copies", seed, label), len(trained) * len(TURNS))
    if arm.regime == "more":
        return shuffled(dataset.pool(MORE, label), "more", seed, label)
    if not arm.is_synthetic:
        return []
    names = resolved_source(arm, dataset.sources).split("+")
    draws = [shuffled(dataset.pool(name, label), "synthetic", seed, label) for name in names]
    return [sample for sample in chain.from_iterable(zip_longest(*draws)) if sample is not None]


def shuffled(samples: Sequence[Sample], purpose: str, seed: int, label: str) -> list[Sample]:
    """A shuffle that depends only on purpose, seed and class. NumPy guarantees that RandomState's
    stream never changes."""
    digest = hashlib.sha256(
        f"{purpose}\0{seed}\0{label}".encode("utf-8", errors="surrogatepass")
    ).digest()
    random = np.random.RandomState(int.from_bytes(digest[:4], "little"))
    return [samples[index] for index in random.permutation(len(samples))]


def _by_file(sample: Sample) -> str:
    return sample.file

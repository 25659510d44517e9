"""From folders to samples, deterministically and without decoding images.

    <real>/train/<class>/...     <real>/test/<class>/...     <real>/groups.csv, from `split`
    <synthetic>/<class>/...      with metadata.jsonl (labels verbatim) or without (labels are folder
                                 names)
    <synthetic>/train-*.tar      with manifest.json: the same, as tar shards

Additional real images and further test sets are in class folders too. Files are read in sorted
order; trainer.data.cells draws from them.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from comfy_nodes.labelset import folder_name
from trainer.config import DEFAULT_SOURCE
from trainer.data.group_table import GROUPS_FILE, with_groups
from trainer.data.samples import (
    MORE,
    REAL,
    Sample,
    by_folder_name,
    fingerprint,
    quoted,
    read_class_folders,
    read_labelled,
)
from trainer.errors import DataError

logger = logging.getLogger(__name__)
PARTS = ("train", "test", "synthetic", "more")
_TEST = "test:"  # before the name of a further test set, in the name of its part


@dataclass(frozen=True)
class Dataset:
    """All images of a grid, each part sorted by class and file, `synthetic` by source before.

    `sources` are the names of the synthetic sources, in the given order; `more` are additional real
    images; `tests` are further test sets by name.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    synthetic: tuple[Sample, ...]
    sources: tuple[str, ...] = ()
    more: tuple[Sample, ...] = ()
    tests: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, tuple[Sample, ...]]:
        """All images by part: PARTS, and "test:NAME" for each further test set."""
        further = {_TEST + name: samples for name, samples in self.tests.items()}
        return {part: getattr(self, part) for part in PARTS} | further

    @cached_property
    def _pools(self) -> dict[tuple[str, str], list[Sample]]:
        pools: dict[tuple[str, str], list[Sample]] = defaultdict(list)
        for sample in (*self.train, *self.synthetic, *self.more):
            pools[sample.source, sample.label].append(sample)
        return dict(pools)

    def pool(self, source: str, label: str) -> list[Sample]:
        """The images of one class that can be trained on: "real", "more", or of a synthetic
        source."""
        return self._pools.get((source, label), [])

    def fingerprints(self) -> dict[str, str]:
        """One short hash per part, over names, labels, sources and contents."""
        return {part: fingerprint(samples) for part, samples in self.parts.items()}

    def images_per_class(self) -> dict[str, list[int]]:
        """How many images each part has of each class, in the order of `classes`."""
        counts = {part: Counter(_labels(samples)) for part, samples in self.parts.items()}
        return {
            part: [counter[label] for label in self.classes] for part, counter in counts.items()
        }


def is_test(part: str) -> bool:
    """Whether a part of a data set is tested on."""
    return part == "test" or part.startswith(_TEST)


def load_dataset(
    real: Path,
    synthetic: Path | Mapping[str, Path] | None,
    *,
    more: Path | None = None,
    tests: Mapping[str, Path] | None = None,
    limit_per_class: int | None = None,
    split: bool = True,
) -> Dataset:
    """Reads all folders, without decoding images. `tests` are further test sets, in class folders.
    `limit_per_class` keeps the first files of each real class. Without `split`, `real` has class
    folders instead of train and test; all its images are training images, and of identical files
    the first stays.

    Images in `more` that are identical to a training or test image are left out, so `more` may be
    the folder that these were taken from.

    Raises:
        DataError: a folder is missing or empty, has fewer than two classes, or classes do not
            match.
    """
    parts = (_read_split if split else _read_whole)(real, limit_per_class)
    classes = tuple(sorted(set(_labels(parts["train"]))))
    if len(classes) < 2:
        folder = real / "train" if split else real
        raise DataError(f"{folder} has one class, '{classes[0]}'; a classifier needs at least two")
    folders = {DEFAULT_SOURCE: synthetic} if isinstance(synthetic, Path) else dict(synthetic or {})
    made = [
        each
        for name, folder in folders.items()
        for each in _read_source(folder, classes, source=name)
    ]
    further = (
        _read_more(more, classes, known=(*parts["train"], *parts["test"]))
        if more is not None
        else ()
    )
    return Dataset(
        classes,
        parts["train"],
        parts["test"],
        tuple(made),
        tuple(folders),
        further,
        {
            name: _read_test(folder, classes, limit_per_class)
            for name, folder in (tests or {}).items()
        },
    )


def _read_split(real: Path, limit_per_class: int | None) -> dict[str, tuple[Sample, ...]]:
    _refuse_unsplit(real)
    parts = {
        part: read_class_folders(real / part, limit_per_class=limit_per_class)
        for part in ("train", "test")
    }
    _check_same_classes(
        set(_labels(parts["train"])),
        set(_labels(parts["test"])),
        first=f"{real / 'train'}",
        second=f"{real / 'test'}",
    )
    parts["train"] = with_groups(parts["train"], real / GROUPS_FILE, part="train")
    return parts


def _read_whole(real: Path, limit_per_class: int | None) -> dict[str, tuple[Sample, ...]]:
    found = read_class_folders(real, limit_per_class=limit_per_class)
    if {"train", "test"} & set(_labels(found)):
        raise DataError(
            f"{real} has train and test folders, so it is split already; leave --test-share out"
        )
    first = {(each.label, each.sha256): each for each in reversed(found)}
    kept = tuple(each for each in found if first[each.label, each.sha256] is each)
    if len(kept) < len(found):
        logger.info("%s: %d identical files are left out", real, len(found) - len(kept))
    return {"train": kept, "test": ()}


def _refuse_unsplit(real: Path) -> None:
    """The user decides how many images to test on, so plain class folders are not split
    automatically."""
    if (
        not (real / "train").is_dir()
        and real.is_dir()
        and any(path.is_dir() for path in real.iterdir())
    ):
        raise DataError(
            f"{real} has no train and test folders; if these are class folders, split them first: "
            f"synthgrid split --images {real} --out {real}-split, then --real {real}-split"
        )


def _read_more(
    root: Path, classes: tuple[str, ...], *, known: Iterable[Sample]
) -> tuple[Sample, ...]:
    seen = {sample.sha256 for sample in known}
    found = _under_real_names(read_class_folders(root), classes, root, source=MORE)
    new = tuple(sample for sample in found if sample.sha256 not in seen)
    if len(new) < len(found):
        logger.info(
            "%s: %d images are training or test images and are left out",
            root,
            len(found) - len(new),
        )
    return new


def _read_test(
    root: Path, classes: tuple[str, ...], limit_per_class: int | None
) -> tuple[Sample, ...]:
    """A further test set under the real classes' names."""
    if (root / "test").is_dir() and (root / "train").is_dir() and "test" not in classes:
        raise DataError(
            f"{root} has train and test folders; to test on the latter: {root / 'test'}"
        )
    found = read_class_folders(root, limit_per_class=limit_per_class)
    return _under_real_names(found, classes, root, source=REAL)


def _labels(samples: Iterable[Sample]) -> list[str]:
    return [sample.label for sample in samples]


def _read_source(root: Path, classes: tuple[str, ...], *, source: str) -> tuple[Sample, ...]:
    """The images of one synthetic source under the real classes' names."""
    if not root.is_dir():
        raise DataError(f"synthetic folder {root} does not exist; make it with: synthgrid run")
    samples = read_labelled(root).samples
    return _under_real_names(samples, classes, root, source=source)


def _under_real_names(
    samples: Iterable[Sample], classes: tuple[str, ...], root: Path, *, source: str
) -> tuple[Sample, ...]:
    """The samples with labels spelled as in the real folders, sorted by class and file."""
    names = by_folder_name(classes)

    def real_name(label: str) -> str:
        label = unicodedata.normalize("NFC", label)
        return names.get(label) or names.get(folder_name(label)) or label

    renamed = [replace(each, label=real_name(each.label), source=source) for each in samples]
    _check_same_classes(
        set(classes), set(_labels(renamed)), first="the real images", second=f"{root}"
    )
    return tuple(sorted(renamed, key=lambda sample: (sample.label, sample.file)))


def _check_same_classes(
    first_classes: set[str], second_classes: set[str], *, first: str, second: str
) -> None:
    only_first, only_second = (
        sorted(first_classes - second_classes),
        sorted(second_classes - first_classes),
    )
    if only_first and not only_second:
        raise DataError(
            f"{second} has no images of these classes: {quoted(only_first)}; add some, or leave "
            f"these classes out of {first}"
        )
    if only_second:
        raise DataError(
            f"classes do not match: only in {first}: {quoted(only_first)}; only in {second}: "
            f"{quoted(only_second)}; rename or remove folders until both have the same classes"
        )

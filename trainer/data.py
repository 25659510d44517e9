"""Folders to samples, and samples to the images of one cell: all deterministic, and all checked before any training.

    <real>/train/<class>/...     <real>/test/<class>/...
    <synthetic>/<class>/...      with metadata.jsonl (labels verbatim) or without (folder names are the labels)

Files are taken in sorted order. A seed decides three things through streams of their own, so that changing one leaves
the others: which real training images are held out for validation, which synthetic images are drawn, in which order.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comfy_nodes.labelset import METADATA, ImageRecord, LabelledFolder, LabelsetError, folder_name
from trainer.errors import DataError
from trainer.images import SUFFIXES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One image file. `file` is relative to its folder's root, with forward slashes; `sha256` is of its bytes."""

    path: Path
    file: str
    label: str
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """All images of a grid, each part sorted by class and file."""

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    synthetic: tuple[Sample, ...]

    def fingerprints(self) -> dict[str, str]:
        """One short hash a part, over names, labels and contents."""
        return {part: fingerprint(getattr(self, part)) for part in ("train", "test", "synthetic")}

    def leaked(self) -> int:
        """How many test images are also among the training or synthetic ones, byte for byte."""
        seen = {sample.sha256 for sample in (*self.train, *self.synthetic)}
        return sum(sample.sha256 in seen for sample in self.test)


@dataclass(frozen=True)
class CellImages:
    """The images of one cell at one seed: `train` starts with the real ones, `synthetic` of them come after."""

    train: tuple[Sample, ...]
    synthetic: int
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def real(self) -> tuple[Sample, ...]:
        """The real images trained on."""
        return self.train[: len(self.train) - self.synthetic]

    @property
    def drawn(self) -> tuple[Sample, ...]:
        """The synthetic images trained on."""
        return self.train[len(self.train) - self.synthetic :]

    def fingerprint(self) -> str:
        """A short hash over every image and what it is used for."""
        parts = (self.real, self.drawn, self.validation, self.test)
        return hashlib.sha256("".join(fingerprint(part) for part in parts).encode()).hexdigest()[:16]


def fingerprint(samples: Iterable[Sample]) -> str:
    """A short hash over names, labels and contents; independent of where the folder is."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.file}\0{sample.label}\0{sample.sha256}\n".encode("utf-8", errors="surrogatepass"))
    return digest.hexdigest()[:16]


def load_dataset(real: Path, synthetic: Path | None, *, limit_per_class: int | None = None) -> Dataset:
    """Reads both folders, without decoding images. `limit_per_class` keeps the first files of each real class.

    Raises:
        DataError: a folder is missing or empty, has fewer than two classes, or classes do not match.
    """
    parts = {part: read_class_folders(real / part, limit_per_class=limit_per_class) for part in ("train", "test")}
    _check_same_classes(
        set(_labels(parts["train"])), set(_labels(parts["test"])), first=f"{real / 'train'}", second=f"{real / 'test'}"
    )
    classes = tuple(sorted(set(_labels(parts["train"]))))
    if len(classes) < 2:
        raise DataError(f"{real / 'train'} has one class, '{classes[0]}'; a classifier needs at least two")
    made = _read_synthetic(synthetic, classes) if synthetic is not None else ()
    return Dataset(classes=classes, train=parts["train"], test=parts["test"], synthetic=made)


def wanted_synthetic(ratio: float, real_count: int) -> int:
    """Synthetic images for a class with `real_count` real training images, halves rounded up."""
    return math.floor(ratio * real_count + 0.5)


def check_counts(dataset: Dataset, *, largest_ratio: float) -> None:
    """Makes sure that every cell of a grid can be filled.

    Raises:
        DataError: a class has a single training image, or fewer synthetic ones than the largest ratio asks for.
    """
    real, made = Counter(_labels(dataset.train)), Counter(_labels(dataset.synthetic))
    single = [label for label in dataset.classes if real[label] < 2]
    if single:
        raise DataError(
            f"class {_quoted(single)} has a single training image; each needs at least 2, one to train and one to validate"
        )
    short = [
        f"'{label}' has {made[label]}, needs {wanted_synthetic(largest_ratio, real[label])}"
        for label in dataset.classes
        if made[label] < wanted_synthetic(largest_ratio, real[label])
    ]
    if short:
        more = f" and {len(short) - 5} more classes" * (len(short) > 5)
        raise DataError(
            f"too few synthetic images for ratio {largest_ratio:g}: {'; '.join(short[:5])}{more}; "
            f"generate more, or ask for a smaller ratio"
        )


def cell_images(dataset: Dataset, *, ratio: float, seed: int, validation_share: float) -> CellImages:
    """The images of one cell. The split depends on the seed only; a ratio's draw contains every smaller ratio's."""
    kept: list[Sample] = []
    held: list[Sample] = []
    drawn: list[Sample] = []
    made = _by_label(dataset.synthetic)
    for label, samples in _by_label(dataset.train).items():
        order = _shuffled(samples, "validation", seed, label)
        count = min(max(1, math.floor(validation_share * len(samples) + 0.5)), len(samples) - 1)
        held += sorted(order[:count], key=_by_file)
        kept += sorted(order[count:], key=_by_file)
        drawn += _shuffled(made.get(label, []), "synthetic", seed, label)[: wanted_synthetic(ratio, len(samples))]
    return CellImages(train=(*kept, *drawn), synthetic=len(drawn), validation=tuple(held), test=dataset.test)


def _shuffled(samples: Sequence[Sample], purpose: str, seed: int, label: str) -> list[Sample]:
    """A shuffle for this purpose, seed and class alone. RandomState, since NumPy promises that its stream stays."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{label}".encode("utf-8", errors="surrogatepass")).digest()
    random = np.random.RandomState(int.from_bytes(digest[:4], "little"))
    return [samples[index] for index in random.permutation(len(samples))]


def _by_file(sample: Sample) -> str:
    return sample.file


def _by_label(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.label].append(sample)
    return dict(groups)


def _labels(samples: Iterable[Sample]) -> list[str]:
    return [sample.label for sample in samples]


def read_class_folders(root: Path, *, limit_per_class: int | None = None) -> tuple[Sample, ...]:
    """Every image below each class folder of `root`."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected one folder a class in it, with images")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"{root} has no class folders; expected one folder a class, with images")
    found: list[tuple[Path, str]] = []
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        files = sorted((path for path in files if not path.name.startswith(".")), key=lambda path: path.as_posix())
        if not files:
            raise DataError(f"class folder {folder} has no images; known endings: {', '.join(SUFFIXES)}")
        found += [(path, unicodedata.normalize("NFC", folder.name)) for path in files[:limit_per_class]]
    return _hashed(root, found)


def _read_synthetic(root: Path, classes: tuple[str, ...]) -> tuple[Sample, ...]:
    """The synthetic images under the real classes' names."""
    if not root.is_dir():
        raise DataError(f"synthetic folder {root} is not there; make it with: python -m client run")
    samples = _read_records(root) if (root / METADATA).is_file() else read_class_folders(root)
    names = {folder_name(name): name for name in classes} | {name: name for name in classes}

    def real_name(label: str) -> str:
        label = unicodedata.normalize("NFC", label)
        return names.get(label) or names.get(folder_name(label)) or label

    renamed = [Sample(each.path, each.file, real_name(each.label), each.sha256) for each in samples]
    _check_same_classes(set(classes), set(_labels(renamed)), first="the real images", second=f"{root}")
    return tuple(sorted(renamed, key=lambda sample: (sample.label, sample.file)))


def _read_records(root: Path) -> tuple[Sample, ...]:
    """The images that metadata.jsonl names. Reads only: mending a folder is its writer's business."""
    folder, found = LabelledFolder(root), []
    lines = folder.metadata_path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = ImageRecord.from_json(line)
            path = folder.path_of(record)
        except LabelsetError as error:
            if number == len(lines):  # a writer was stopped in the middle of its last line
                logger.warning("%s: the last line is unfinished and its image is left out", folder.metadata_path)
                continue
            raise DataError(f"{folder.metadata_path} line {number}: {error}; mend or remove that line") from error
        if not path.is_file():
            raise DataError(f"{folder.metadata_path} line {number} names {path}, which is gone; generate it again")
        found.append((path, record.label))
    if not found:
        raise DataError(f"{folder.metadata_path} names no image; generate some with: python -m client run")
    strays = sum(path.suffix.lower() in SUFFIXES for path in root.glob("*/*")) - len(found)
    if strays > 0:
        logger.warning("%s: %d images without a record are left out", root, strays)
    return _hashed(root, sorted(set(found)))


def _hashed(root: Path, found: Sequence[tuple[Path, str]]) -> tuple[Sample, ...]:
    def sample(item: tuple[Path, str]) -> Sample:
        path, label = item
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return Sample(path, path.relative_to(root).as_posix(), label, digest)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(sample, found))


def _check_same_classes(first_classes: set[str], second_classes: set[str], *, first: str, second: str) -> None:
    only_first, only_second = sorted(first_classes - second_classes), sorted(second_classes - first_classes)
    if only_first or only_second:
        raise DataError(
            f"classes do not match: only in {first}: {_quoted(only_first)}; only in {second}: {_quoted(only_second)}; "
            f"rename or remove folders until both have the same classes"
        )


def _quoted(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:10])
    return (shown + f" and {len(labels) - 10} more" * (len(labels) > 10)) or "none"

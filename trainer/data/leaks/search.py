"""Images shared by parts of a data set that must not share any: found, listed, and dropped.

A test image that is also trained on makes every score too high; a synthetic image that copies a
training image adds nothing, and may reveal a validation image. So the test images are compared with
everything that can be trained on, and the training images with the synthetic and the additional
real ones. Duplicates within a part are not leaks, but one file under two labels is a mistake of
the data, wherever it is.

Kinds, the most certain first: "bytes" (the same file), "pixels" (decodes to the same), "mirrored"
and "near" (the same picture by similarity.py: re-encoded, resized, cropped by up to a tenth,
brighter, and "mirrored" as well).

Detection rates for 960 flowers of 128 pixels and 1,000 CIFAR-10 images, with one planted copy of
each: JPEG quality 20 to 85, half and double size, brightness 0.6 to 1.3, contrast 0.7, grey,
mirrored: 99.8 to 100%; random crops to 95% of the side: 99 and 100%, to 90%, mirrored or not: 97 to
99%, to 80%: 3 and 17%, which is too far. A picture rotated by any angle, or pasted into another, is
not found.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.dataset import Dataset, is_test
from trainer.data.images import read_image, read_thumbnail
from trainer.data.leaks.similarity import (
    SAME_PICTURE,
    THUMB_PX,
    Match,
    find_matches,
    same_picture_threshold,
)
from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.progress import Progress
from trainer.runs import to_json, write_file

logger = logging.getLogger(__name__)
KINDS = ("bytes", "pixels", "near", "mirrored")
_TRAINED = ("train", "synthetic", "more")
_MAYBE_SAME_PIXELS = 0.97  # edge correlation from which both images are decoded in full
SPOILT = 0.1  # share of test files that are trained on from which a grid is refused: our choice
_SEARCH = 1  # raise it when the search finds other pairs in the same images
_LISTED = 200


@dataclass(frozen=True)
class LeakedImage:
    """One side of a leak. `part` is one of Dataset.parts; `source` names a synthetic source."""

    part: str
    source: str
    file: str
    label: str


@dataclass(frozen=True)
class Leak:
    """Two images of different parts that show the same picture. `distance` is 0 for equal pixels,
    else 1 - edge correlation."""

    kind: str
    distance: float
    kept: LeakedImage
    dropped: LeakedImage


@dataclass(frozen=True)
class Leaks:
    """All leaks of a data set, worst first. `checked` counts the images of each part.

    `threshold` is the edge correlation required of a pair: SAME_PICTURE, or more if the images of
    the data set look alike by nature (`alike`), as digits do. `two_labels` has the places of each
    file that occurs under several labels.
    """

    found: tuple[Leak, ...]
    checked: Mapping[str, int]
    threshold: float
    alike: bool
    two_labels: tuple[tuple[LeakedImage, ...], ...] = ()

    def counts(self) -> dict[str, int]:
        """How many leaks there are of each kind."""
        counter = Counter(leak.kind for leak in self.found)
        return {kind: counter[kind] for kind in KINDS}

    def by_parts(self) -> dict[str, int]:
        """How many leaks there are between two parts: {"test-train": 3, ...}, for the compared
        pairs of parts."""
        counter = Counter(f"{leak.kept.part}-{leak.dropped.part}" for leak in self.found)
        pairs = [
            f"{kept}-{part}"
            for kept, parts in _compared(self.checked)
            for part in parts
            if self.checked.get(part)
        ]
        return {pair: counter[pair] for pair in pairs}

    def test_images(self) -> int:
        """How many test images leak, in any way."""
        return len({leak.kept for leak in self.found if is_test(leak.kept.part)})

    def to_dict(self, *, listed: int = _LISTED, dropped: bool = False) -> dict[str, Any]:
        """As it is stored in grid.json. `pairs` has the worst `listed` of `total`; `dropped` says
        whether they were left out."""
        return {
            "checked": dict(self.checked),
            "total": len(self.found),
            "test_images": self.test_images(),
            "counts": self.counts(),
            "by_parts": self.by_parts(),
            "threshold": round(self.threshold, 4),
            "alike": self.alike,
            "dropped": dropped,
            "pairs": [asdict(leak) for leak in self.found[:listed]],
            "two_labels": [
                [asdict(each) for each in places] for places in self.two_labels[:listed]
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Leaks:
        """What `to_dict` gave, listing all. Raises KeyError or TypeError for anything else."""
        pairs = [
            Leak(
                each["kind"],
                each["distance"],
                LeakedImage(**each["kept"]),
                LeakedImage(**each["dropped"]),
            )
            for each in values["pairs"]
        ]
        places = tuple(
            tuple(LeakedImage(**each) for each in group) for group in values["two_labels"]
        )
        return cls(tuple(pairs), values["checked"], values["threshold"], values["alike"], places)


def _compared(parts: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Which parts must not share images: the first keeps its image and the others lose it."""
    return [*((part, _TRAINED) for part in parts if is_test(part)), ("train", _TRAINED[1:])]


def find_leaks(dataset: Dataset) -> Leaks:
    """Compares the parts of a data set, decoding every image once at a small size.

    Raises:
        DataError: an image cannot be decoded.
    """
    parts = dict(sorted(dataset.parts.items(), key=lambda part: not is_test(part[0])))
    thumbs = thumbnails([sample for samples in parts.values() for sample in samples])
    threshold = same_picture_threshold(
        stacked(thumbs, dataset.train),
        stacked(thumbs, dataset.test),
        [each.label for each in dataset.train],
        [each.label for each in dataset.test],
    )
    found: list[Leak] = []
    for kept, others in _compared(parts):
        second = [(part, sample) for part in others for sample in parts[part]]
        found += _compare(kept, parts[kept], second, thumbs, threshold)
    found.sort(
        key=lambda leak: (not is_test(leak.kept.part), KINDS.index(leak.kind), leak.distance)
    )
    return Leaks(
        found=tuple(found),
        checked={part: len(samples) for part, samples in parts.items()},
        threshold=threshold,
        alike=threshold > SAME_PICTURE,
        two_labels=files_under_two_labels(dataset),
    )


def remembered_leaks(dataset: Dataset, cache: Path) -> Leaks:
    """`find_leaks`, or what an earlier search of the same images left in the file `cache`.

    Raises:
        DataError: an image cannot be decoded.
        ReportError: the cache cannot be written.
    """
    key = {"search": _SEARCH, **dataset.fingerprints()}
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return Leaks.from_dict(stored["leaks"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or another version wrote it
    leaks = find_leaks(dataset)
    listed = max(len(leaks.found), len(leaks.two_labels))
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_file(cache, to_json({"key": key, "leaks": leaks.to_dict(listed=listed)}))
    return leaks


def files_under_two_labels(dataset: Dataset) -> tuple[tuple[LeakedImage, ...], ...]:
    """The places of each file that has several labels, among the real images and one synthetic
    source; two sources may disagree, as a control with shuffled labels does."""
    real = [
        (part, each)
        for part, samples in dataset.parts.items()
        if part != "synthetic"
        for each in samples
    ]
    found: dict[tuple[LeakedImage, ...], None] = {}
    for source in dataset.sources or ("",):
        scope = real + [("synthetic", each) for each in dataset.synthetic if each.source == source]
        places: dict[str, list[LeakedImage]] = {}
        for part, each in scope:
            place = LeakedImage(part, each.source, each.file, each.label)
            places.setdefault(each.sha256, []).append(place)
        found |= {
            tuple(same): None
            for same in places.values()
            if len({place.label for place in same}) > 1
        }
    return tuple(found)


def refuse_spoilt_test(dataset: Dataset) -> None:
    """Refuses a data set that trains on its own test images, before any image is decoded.

    Raises:
        DataError: more than SPOILT of the test files, and more than one, are trained on too.
    """
    trained = {each.sha256: each for each in (*dataset.train, *dataset.synthetic, *dataset.more)}
    for test in (dataset.test, *dataset.tests.values()):
        shared = [each for each in test if each.sha256 in trained]
        if len(shared) > max(1, SPOILT * len(test)):
            first = trained[shared[0].sha256]
            raise DataError(
                f"{len(shared)} of {len(test)} test images are trained on as well, such as "
                f"{shared[0].path} = {first.path}; scores on them would mean nothing: check the "
                "folders, or leave the copies out of training with --drop-leaks"
            )


def drop_leaks(dataset: Dataset, leaks: Leaks) -> Dataset:
    """The data set without the training, synthetic and additional real images that leak. Test
    images all stay."""
    lost = {(leak.dropped.part, leak.dropped.source, leak.dropped.file) for leak in leaks.found}

    def kept(part: str) -> tuple[Sample, ...]:
        return tuple(
            each for each in getattr(dataset, part) if (part, each.source, each.file) not in lost
        )

    return replace(dataset, train=kept("train"), synthetic=kept("synthetic"), more=kept("more"))


def _compare(
    part: str,
    first: Sequence[Sample],
    second: Sequence[tuple[str, Sample]],
    thumbs: Mapping[str, np.ndarray],
    threshold: float,
) -> Iterator[Leak]:
    """The leaks between one part and others, each pair of images once."""
    if not first or not second:
        return
    same_bytes: dict[str, list[int]] = {}
    for column, (_, sample) in enumerate(second):
        same_bytes.setdefault(sample.sha256, []).append(column)
    exact = {
        (row, column)
        for row, sample in enumerate(first)
        for column in same_bytes.get(sample.sha256, ())
    }
    for row, column in sorted(exact):
        yield _leak("bytes", 0.0, part, first[row], *second[column])
    others = [sample for _, sample in second]
    for match in find_matches(stacked(thumbs, first), stacked(thumbs, others), threshold=threshold):
        if (match.first, match.second) not in exact:
            kind = _kind(match, first[match.first], second[match.second][1])
            distance = 0.0 if kind == "pixels" else round(1.0 - match.correlation, 4)
            yield _leak(kind, distance, part, first[match.first], *second[match.second])


def _leak(kind: str, distance: float, part: str, kept: Sample, other: str, dropped: Sample) -> Leak:
    return Leak(
        kind,
        distance,
        LeakedImage(part, kept.source, kept.file, kept.label),
        LeakedImage(other, dropped.source, dropped.file, dropped.label),
    )


def _kind(match: Match, first: Sample, second: Sample) -> str:
    if match.mirrored:
        return "mirrored"
    if match.correlation < _MAYBE_SAME_PIXELS:
        return "near"
    one, two = read_image(first.path), read_image(second.path)
    return "pixels" if one.size == two.size and one.tobytes() == two.tobytes() else "near"


def thumbnails(samples: Iterable[Sample]) -> dict[str, np.ndarray]:
    """A thumbnail of each different file, by the file's hash.

    Raises:
        DataError: an image cannot be decoded.
    """
    paths = {sample.sha256: sample.path for sample in samples}
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        Progress("leaks", total=len(paths), unit="images") as progress,
    ):
        thumbs = {}
        decoded = pool.map(lambda path: read_thumbnail(path, THUMB_PX), paths.values())
        for digest, thumb in zip(paths, decoded, strict=True):
            thumbs[digest] = thumb
            progress.advance()
    return thumbs


def stacked(thumbs: Mapping[str, np.ndarray], samples: Sequence[Sample]) -> np.ndarray:
    """The thumbnails of these samples in their order: uint8 [N,32,32]."""
    return np.stack([thumbs[sample.sha256] for sample in samples])

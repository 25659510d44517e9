"""Labelled image files, read from folders or tar shards without being decoded.

    <folder>/<class>/...         labels are the folders' names
    <folder>/metadata.jsonl      a labelled folder: labels as recorded, verbatim
    <folder>/train-*.tar         with manifest.json: the same, as tar shards

Files are read in sorted order.
"""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes.labelset import (
    METADATA,
    ImageRecord,
    LabelledFolder,
    LabelsetError,
    folder_name,
    read_regular,
)
from comfy_nodes.labelset.files import whole_characters
from comfy_nodes.labelset.images.to_rgb import IMAGE_SUFFIXES
from comfy_nodes.labelset.shards import holds_shards
from trainer.data.shards import ImageFile, read_shards
from trainer.errors import DataError

logger = logging.getLogger(__name__)
REAL, MORE = "real", "more"


@dataclass(frozen=True)
class Sample:
    """One image file, on its own or inside a tar shard. `file` is relative to its folder's root,
    with forward slashes; `sha256` is of its bytes.

    `source` is "real", the name of a synthetic source, "more" for an additional real image, or
    "copy". A copy has the `turn` that makes it (see trainer.data.copies), and its own `file` and
    `sha256`. `group` is what it is held out together with, if groups.csv says so.
    """

    path: ImageFile
    file: str
    label: str
    sha256: str
    source: str = REAL
    turn: str = ""
    group: str = ""


@dataclass(frozen=True)
class SampleSource:
    """The images of one folder, with their records; those of plain class folders have None. A
    labelled folder and the tar shards that were made from it differ in nothing but `path`."""

    samples: tuple[Sample, ...]
    records: tuple[ImageRecord | None, ...]


def fingerprint(samples: Iterable[Sample]) -> str:
    """A short hash over names, labels, sources and contents; independent of where the folder is."""
    digest = hashlib.sha256()
    for sample in samples:
        line = f"{sample.file}\0{sample.label}\0{sample.source}\0{sample.sha256}\n"
        digest.update(line.encode("utf-8", errors="surrogatepass"))
    return digest.hexdigest()[:16]


def read_class_folders(root: Path, *, limit_per_class: int | None = None) -> tuple[Sample, ...]:
    """Every image below each class folder of `root`."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected one folder of images per class in it")
    folders = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not folders:
        raise DataError(f"{root} has no class folders; expected one folder per class, with images")
    found: list[tuple[Path, str]] = []
    for folder in folders:
        if whole_characters(folder.name) != folder.name:
            raise DataError(f"the name of class folder {folder} is not UTF-8; rename it")
        files = [
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        ]
        files = sorted(
            (path for path in files if not path.name.startswith(".")),
            key=lambda path: path.as_posix(),
        )
        if not files:
            raise DataError(
                f"class folder {folder} has no images; supported extensions: "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )
        found += [
            (path, unicodedata.normalize("NFC", folder.name)) for path in files[:limit_per_class]
        ]
    return _hashed(root, found)


def read_labelled(root: Path) -> SampleSource:
    """The images of a labelled folder, of tar shards, or of plain class folders.

    Raises:
        DataError: as `read_records`, `read_shards` and `read_class_folders`.
    """
    if holds_shards(root):
        packed = read_shards(root)
        return SampleSource(
            tuple(
                Sample(each.member, each.member.name, each.record.label, each.record.sha256)
                for each in packed
            ),
            tuple(each.record for each in packed),
        )
    if not (root / METADATA).is_file():
        samples = read_class_folders(root)
        return SampleSource(samples, (None,) * len(samples))
    found = read_records(root)
    samples = _hashed(root, [(path, record.label) for path, record in found])
    return SampleSource(samples, tuple(record for _, record in found))


def read_records(root: Path) -> list[tuple[Path, ImageRecord]]:
    """The images that metadata.jsonl names, with their records, sorted by path. Reads only:
    repairing a folder is its writer's business.

    Raises:
        DataError: a line is malformed, names a missing image, or there is none.
    """
    folder, found = LabelledFolder(root), {}
    lines = folder.metadata_path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = ImageRecord.from_json(line)
            path = folder.path_of(record)
        except LabelsetError as error:
            if number == len(lines):  # its writer was stopped in the middle of the last line
                logger.warning(
                    "%s: the last line is unfinished and its image is left out",
                    folder.metadata_path,
                )
                continue
            raise DataError(
                f"{folder.metadata_path} line {number}: {error}; fix or remove that line"
            ) from error
        if not path.is_file():
            raise DataError(
                f"{folder.metadata_path} line {number} names {path}, which is missing; generate it "
                "again"
            )
        found[path, record.label] = record
    if not found:
        raise DataError(f"{folder.metadata_path} lists no image; generate some with: synthgrid run")
    strays = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in root.glob("*/*")) - len(found)
    if strays > 0:
        logger.warning("%s: %d images without a record are left out", root, strays)
    return [(path, record) for (path, _), record in sorted(found.items(), key=lambda item: item[0])]


def _hashed(root: Path, found: Sequence[tuple[Path, str]]) -> tuple[Sample, ...]:
    def sample(item: tuple[Path, str]) -> Sample:
        path, label = item
        try:
            digest = hashlib.sha256(read_regular(path)).hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return Sample(path, path.relative_to(root).as_posix(), label, digest)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(sample, found))


def by_folder_name(classes: Iterable[str]) -> dict[str, str]:
    """The name of each class by itself, and by the name of a folder for it."""
    classes = tuple(classes)
    return {folder_name(name): name for name in classes} | {name: name for name in classes}


def quoted(labels: Sequence[str]) -> str:
    """The first ten names in quotes, for a message."""
    shown = ", ".join(f"'{label}'" for label in labels[:10])
    return (shown + f" and {len(labels) - 10} more" * (len(labels) > 10)) or "none"

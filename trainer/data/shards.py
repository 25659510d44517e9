"""Images inside tar shards, as `synthgrid export-data --to webdataset` writes them, read in place.

A tar file is no archive to unpack: its files lie in it as they are, one after the other. So an
image is a piece of a large file, and is read by its place there, in any order and by any number of
threads, without the rest. What stays in memory is the place and the record of each image, about
what a labelled folder takes.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes.labelset import ImageRecord, LabelledFolder, LabelsetError, Line, open_regular
from comfy_nodes.labelset.shards import (
    Manifest,
    Shard,
    ShardError,
    path_in,
    read_manifest,
    read_shard,
)
from trainer.errors import DataError
from trainer.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a tar file: `size` bytes from `offset` on. `name` is what it is called in the
    labelled folder that the shard was made from."""

    shard: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"


ImageFile = Path | Member


@dataclass(frozen=True)
class Packed:
    """An image in a shard, and its record, whose SHA-256 is true of its bytes."""

    member: Member
    record: ImageRecord


def read_member(member: Member) -> bytes:
    """The file's bytes.

    Raises:
        OSError: the tar file cannot be read, or is shorter than it was.
    """
    with open_regular(member.shard, buffering=0) as file:
        file.seek(member.offset)
        data = file.read(member.size)
    if len(data) != member.size:
        raise OSError(f"{member.shard} is shorter than it was")
    return data


def record_of(member: Member) -> ImageRecord:
    """The record of an image, which follows it in the tar file.

    Raises:
        DataError: it is not there any more.
    """
    block = tarfile.BLOCKSIZE
    start = member.offset + -(-member.size // block) * block
    try:
        with open_regular(member.shard) as file:
            file.seek(start)
            info = tarfile.TarInfo.frombuf(file.read(block), "utf-8", "strict")
            return Line(1, file.read(info.size)).record()
    except (OSError, tarfile.HeaderError, LabelsetError) as error:
        raise DataError(f"{member} has no record any more: {error}; copy it again") from error


def read_shards(root: Path) -> list[Packed]:
    """The images of a folder of shards, sorted as those of the labelled folder would be.

    A shard that is not sound is named in a warning and set aside: nothing of it is taken.

    Raises:
        DataError: the folder is incomplete, or no shard in it is sound.
    """
    try:
        manifest = read_manifest(root)
    except LabelsetError as error:
        raise DataError(str(error)) from error
    found: dict[str, Packed] = {}
    rows: set[tuple[str, int]] = set()
    bad: list[str] = []
    for shard, images in _each_shard(root, manifest):
        why = images if isinstance(images, ShardError) else _known(images, found, rows)
        if why is not None:
            bad.append(f"{shard.file}: {why}")
            logger.warning(
                "%s: %s is set aside with its %d images: %s", root, shard.file, shard.images, why
            )
        elif not isinstance(images, ShardError):
            found |= {each.record.file_name: each for each in images}
            rows |= {each.record.key for each in images}
    if not found:
        raise DataError(
            f"{root} has no sound shard ({bad[0] if bad else 'it lists none'}); copy or export "
            "them again"
        )
    return sorted(found.values(), key=lambda each: Path(each.record.file_name))


def _known(
    images: list[Packed], found: dict[str, Packed], rows: set[tuple[str, int]]
) -> str | None:
    """Why a shard cannot stand beside those before it; None if it can."""
    names: set[str] = set()
    keys: set[tuple[str, int]] = set()
    for each in images:
        name, key = each.record.file_name, each.record.key
        if name in found or name in names:
            return f"{name} is there already"
        if key in rows or key in keys:
            return f"{name}: its row is there already"
        names.add(name)
        keys.add(key)
    return None


def _each_shard(
    root: Path, manifest: Manifest
) -> Iterator[tuple[Shard, list[Packed] | ShardError]]:
    """Every shard in order with its images, or with what is wrong with it."""
    folder = LabelledFolder(root)

    def read(shard: Shard) -> list[Packed] | ShardError:
        path, images = root / shard.file, []
        try:
            for each in read_shard(path, shard):
                path_in(folder, each.record)
                name = each.record.file_name
                images.append(Packed(Member(path, each.offset, len(each.data), name), each.record))
        except ShardError as error:
            return error
        return images

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        Progress(f"reading {root.name}", total=manifest.images, unit="images") as progress,
    ):
        for shard, found in zip(manifest.shards, pool.map(read, manifest.shards), strict=True):
            progress.advance(shard.images)
            yield shard, found

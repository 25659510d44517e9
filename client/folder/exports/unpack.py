"""`folder`: from tar shards, the labelled folder that they were made from, byte for byte.

Shards may come from anywhere, so nothing in them is believed: a shard counts only if its bytes are
those of the manifest, and if it holds nothing but plain files that are images with their records.
Any other shard is set aside: it is named with the reason, stays where it is, and nothing of it is
taken. Its images can be made again by `synthgrid verify --repair --server`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    METADATA,
    ImageRecord,
    LabelledFolder,
    Line,
    RowSet,
    folder_name,
    open_regular,
    sha256,
)
from comfy_nodes.labelset.imagefile import SUFFIXES

from ...errors import FolderError
from .manifest import Manifest, Shard, read_limited, read_manifest
from .source import Progress

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
_NAME = re.compile(r"([A-Za-z0-9_-]{1,100})\.([a-z]{3,4})", re.ASCII)
MOST_IMAGE_BYTES = 512 * 2**20  # more than a lossless image of 100 million pixels
MOST_RECORD_BYTES = 16 * 2**20


class ShardError(Exception):
    """What is wrong with a shard, in words."""


@dataclass(frozen=True)
class Unpacked:
    """`set_aside` holds (file, reason) of what was not taken."""

    images: int
    set_aside: tuple[tuple[str, str], ...]


def unpack(shards: Path, folder: Path, *, on_progress: Progress | None = None) -> Unpacked:
    """Writes a labelled folder into the empty `folder`.

    Raises:
        FolderError: `shards` is not a complete folder of shards, or no shard in it is sound.
        LabelsetError, OSError: the folder cannot be written.
    """
    manifest = read_manifest(shards)
    taking = _Taking(folder, manifest.images, on_progress)
    bad: list[tuple[str, str]] = []
    with (folder / METADATA).open("xb") as taking.lines:
        for shard in manifest.shards:
            try:
                taking.take(shards / shard.file, shard)
            except ShardError as error:
                bad.append((shard.file, str(error)))
    if not taking.images:
        first = f"{bad[0][0]}: {bad[0][1]}" if bad else "it lists none"
        raise FolderError(f"{shards} has no sound shard ({first}); copy or export them again")
    bad += _carried(shards, folder, manifest)
    if bad:  # the card's counts
        labelled = LabelledFolder(folder)
        labelled.scan()
        labelled.write_card()
    return Unpacked(taking.images, tuple(bad))


def _carried(shards: Path, folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name, digest in manifest.files.items():
        try:
            data = read_limited(shards / name)
        except (OSError, ValueError) as error:
            yield name, str(error)
            continue
        if sha256(data) == digest:
            with (folder / name).open("xb") as file:
                file.write(data)
        else:
            yield name, "its bytes are not those of the manifest"


class _Taking:
    """Takes whole shards into a folder: all of a shard's images with their records, or none."""

    lines: IO[bytes]

    def __init__(self, folder: Path, total: int, on_progress: Progress | None) -> None:
        self.images = 0
        self._folder, self._total, self._on_progress = folder, total, on_progress
        self._labelled, self._rows = LabelledFolder(folder), RowSet()

    def take(self, path: Path, shard: Shard) -> None:
        """Takes one shard. Raises ShardError with nothing taken."""
        keys: list[tuple[str, int]] = []
        written: list[Path] = []
        start, images = self.lines.tell(), self.images
        try:
            with _opened(path) as file:
                _check_bytes(file, shard)
                for key, suffix, data, line in _samples(file):
                    record = _record(key, suffix, data, line)
                    self._add(record, data, line, keys, written)
            if len(keys) != shard.images:
                raise ShardError(f"it holds {len(keys)} images, {shard.images} in the manifest")
        except ShardError:
            for each in written:
                each.unlink()
            for place in {each.parent for each in written}:
                with suppress(OSError):  # images of other shards are in it
                    place.rmdir()
            for row in keys:
                self._rows.discard(row)
            self.lines.seek(start)
            self.lines.truncate()
            self.images = images
            raise

    def _add(
        self,
        record: ImageRecord,
        data: bytes,
        line: bytes,
        keys: list[tuple[str, int]],
        written: list[Path],
    ) -> None:
        try:
            path = self._labelled.path_of(record)
            if path.parent.name != folder_name(record.label):
                raise ShardError(f"{record.file_name} is not in the folder of its class")
        except LabelsetError as error:
            raise ShardError(str(error)) from error
        if record.key in self._rows:
            raise ShardError(f"{record.file_name}: its row is there already")
        path.parent.mkdir(exist_ok=True)
        try:
            with path.open("xb") as file:
                written.append(path)
                file.write(data)
        except FileExistsError as error:
            raise ShardError(f"{record.file_name} is there already") from error
        self._rows.add(record.key)
        keys.append(record.key)
        self.lines.write(line + b"\n")
        self.images += 1
        if self._on_progress is not None:
            self._on_progress(self.images, self._total)


def _opened(path: Path) -> IO[bytes]:
    if path.is_symlink():
        raise ShardError("it is a link; copy the file itself")
    try:
        return open_regular(path)
    except OSError as error:
        raise ShardError(error.strerror or str(error)) from error


def _check_bytes(file: IO[bytes], shard: Shard) -> None:
    """Compares the file with the manifest and returns to its start."""
    size = os.fstat(file.fileno()).st_size
    if size < shard.bytes:
        raise ShardError(f"it is truncated: {size} of {shard.bytes} bytes")
    if size > shard.bytes:
        raise ShardError(f"it has {size} bytes, {shard.bytes} in the manifest")
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != shard.sha256:
        raise ShardError("its bytes are not those of the manifest (SHA-256)")
    file.seek(0)


def members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the files in a tar that has nothing but plain files with short names.

    Stricter than `tarfile`: no links, devices, folders, sparse files or long names, and the sizes
    are bounded before anything is read.

    Raises:
        ShardError: the tar is truncated or holds anything else.
    """
    while True:
        head = file.read(_BLOCK)
        if not head.strip(b"\0") and len(head) == _BLOCK:
            return
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise ShardError(f"it is no whole tar file: {error}") from error
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ShardError(f"{info.name!r} in it is no plain file"[:200])
        most = MOST_RECORD_BYTES if info.name.endswith(".json") else MOST_IMAGE_BYTES
        if not 0 <= info.size <= most:
            raise ShardError(f"{info.name!r} in it has {info.size} bytes; allowed: {most}"[:200])
        data = file.read(info.size)
        padding = -info.size % _BLOCK
        if len(data) < info.size or len(file.read(padding)) < padding:
            raise ShardError(f"it ends inside {info.name!r}"[:200])
        yield info.name, data


def _samples(file: IO[bytes]) -> Iterator[tuple[str, str, bytes, bytes]]:
    """(key, the image's suffix, its bytes, its record's line) of each image."""
    found = members(file)
    for name, data in found:
        pair = dict([_split(name, data), _split(*next(found, ("", b"")))])
        keys = {key for key, _ in pair}
        suffixes = {suffix for _, suffix in pair} - {".json"}
        if len(keys) != 1 or len(suffixes) != 1 or len(pair) != 2:
            raise ShardError(f"{name!r} in it is no image with its record beside it"[:200])
        key, suffix = keys.pop(), suffixes.pop()
        yield key, suffix, pair[key, suffix], pair[key, ".json"]


def _split(name: str, data: bytes) -> tuple[tuple[str, str], bytes]:
    match = _NAME.fullmatch(name)
    suffix = f".{match[2]}" if match else ""
    if match is None or suffix not in (".json", *SUFFIXES.values()):
        raise ShardError(f"{name!r} in it is neither an image nor a record"[:200])
    return (match[1], suffix), data


def _record(key: str, suffix: str, data: bytes, line: bytes) -> ImageRecord:
    if b"\n" in line or b"\r" in line:
        raise ShardError(f"{key}.json in it is more than one line")
    try:
        record = Line(1, line).record(errors="strict")
    except LabelsetError as error:
        raise ShardError(f"{key}.json in it: {error}") from error
    if f"{record.plan_id}-{record.index:06d}" != key or not record.file_name.endswith(suffix):
        raise ShardError(f"{key}.json in it is the record of another image")
    if record.sha256 != sha256(data):
        raise ShardError(f"{key}{suffix} in it is not the recorded file (SHA-256)")
    return record

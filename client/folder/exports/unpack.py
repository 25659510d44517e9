"""`folder`: from tar shards, the labelled folder that they were made from, byte for byte.

A shard that is not sound (see comfy_nodes.labelset.shards) is set aside: it is named with the
reason, stays where it is, and nothing of it is taken. Its images can be made again by
`synthgrid verify --repair --server`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from comfy_nodes.labelset import METADATA, LabelledFolder, RowSet, sha256
from comfy_nodes.labelset.shards import (
    Manifest,
    Shard,
    ShardError,
    ShardImage,
    path_in,
    read_limited,
    read_manifest,
    read_shard,
)

from ...errors import FolderError
from .source import Progress


@dataclass(frozen=True)
class Unpacked:
    """`set_aside` holds (file, reason) of what was not taken."""

    images: int
    set_aside: tuple[tuple[str, str], ...]


def unpack(shards: Path, folder: Path, *, on_progress: Progress | None = None) -> Unpacked:
    """Writes a labelled folder into the empty `folder`.

    Raises:
        FolderError: no shard in it is sound.
        LabelsetError, OSError: `shards` is not a complete folder of shards, or the folder cannot
            be written.
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
            for image in read_shard(path, shard):
                self._add(image, keys, written)
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

    def _add(self, image: ShardImage, keys: list[tuple[str, int]], written: list[Path]) -> None:
        record = image.record
        path = path_in(self._labelled, record)
        if record.key in self._rows:
            raise ShardError(f"{record.file_name}: its row is there already")
        path.parent.mkdir(exist_ok=True)
        try:
            with path.open("xb") as file:
                written.append(path)
                file.write(image.data)
        except FileExistsError as error:
            raise ShardError(f"{record.file_name} is there already") from error
        self._rows.add(record.key)
        keys.append(record.key)
        self.lines.write(image.line + b"\n")
        self.images += 1
        if self._on_progress is not None:
            self._on_progress(self.images, self._total)

"""`webdataset`: tar shards that the library webdataset and its like read.

train-000000.tar   <plan_id>-<index>.png (or .webp, .jpg) and <plan_id>-<index>.json, in turn
manifest.json      the shards' SHA-256, sizes and counts
README.md, generation.json   as they stand in the labelled folder, if they do
DONE               written last

The .json is the image's line of metadata.jsonl, byte for byte. Equal folders give equal shards:
headers hold no time and no owner. The layout is that of webdataset: the files of a sample follow
one another and share the name before the first dot.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from pathlib import Path

from comfy_nodes.labelset import read_regular, sha256
from comfy_nodes.labelset.shards import CARRIED, DONE, MANIFEST, Manifest, Shard

from ...errors import FolderError
from .source import Entry, Source

MOST_IMAGES = 10_000  # in a shard
MOST_BYTES = 2**30
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)


def write(
    source: Source, folder: Path, *, most_images: int = MOST_IMAGES, most_bytes: int = MOST_BYTES
) -> None:
    """Writes into the empty `folder`; a shard ends at `most_images` images or `most_bytes` bytes.

    Raises:
        FolderError, LabelsetError, OSError: as `Source` does, a plan's name has other characters
            than letters, digits, - and _, or the folder cannot be written.
    """
    shards: list[Shard] = []
    shard: _OpenShard | None = None
    try:
        for entry in source:
            image, line = _headers(entry)
            if shard is not None and shard.is_full(most_images, most_bytes, entry):
                shards.append(shard.close())
                shard = None
            if shard is None:
                shard = _OpenShard(folder / f"train-{len(shards):06d}.tar")
            shard.add(image, entry.data)
            shard.add(line, entry.line)
            shard.images += 1
        if shard is not None:
            shards.append(shard.close())
    finally:
        if shard is not None:
            shard.file.close()
    files = _carry(source.root, folder)
    manifest = Manifest(tuple(shards), dict(sorted(source.tally.labels.items())), files)
    (folder / MANIFEST).write_bytes(manifest.to_json())
    (folder / DONE).write_bytes(b"")


def _headers(entry: Entry) -> tuple[bytes, bytes]:
    """The tar headers of an image and of its record."""
    record = entry.record
    if not _KEY.fullmatch(record.plan_id) or record.index < 0:
        raise FolderError(
            f"{record.file_name}: plan '{record.plan_id}', row {record.index} cannot name a file "
            "of a shard; expected letters, digits, - and _, and a row from 0"
        )
    key = f"{record.plan_id}-{record.index:06d}"
    suffix = "." + record.file_name.rpartition(".")[2]
    return header(key + suffix, len(entry.data)), header(key + ".json", len(entry.line))


def header(name: str, size: int) -> bytes:
    """A tar header (ustar) for a file of `size` bytes, readable by all, of no time and no owner."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


class _OpenShard:
    """A tar file being written, and the hash of what it holds so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.open("xb")
        self.images = self.bytes = 0
        self._hash = hashlib.sha256()

    def is_full(self, most_images: int, most_bytes: int, entry: Entry) -> bool:
        more = len(entry.data) + len(entry.line) + 4 * _BLOCK
        return self.images >= most_images or self.bytes + more > most_bytes

    def add(self, head: bytes, data: bytes) -> None:
        self._write(b"".join((head, data, bytes(-len(data) % _BLOCK))))

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def close(self) -> Shard:
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.bytes % _RECORD))
        self.file.close()
        return Shard(self.path.name, self._hash.hexdigest(), self.bytes, self.images)


def _carry(root: Path, folder: Path) -> dict[str, str]:
    files = {}
    for name in CARRIED:
        if (root / name).is_file():
            data = read_regular(root / name)
            (folder / name).write_bytes(data)
            files[name] = sha256(data)
    return files

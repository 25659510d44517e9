"""Reading a folder of tar shards: a labelled folder in a few large files.

    train-000000.tar             <plan_id>-<index>.png (or .webp, .jpg), then .json with its record
    manifest.json                the shards' SHA-256, sizes and counts
    README.md, generation.json   as they stand in the labelled folder, if they do
    DONE                         written last

Shards may come from anywhere, so nothing in them is believed: a shard counts only if its bytes are
those of the manifest, and if it holds nothing but plain files that are images with their records.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import LabelsetError
from .files import open_regular, sha256
from .folder import CARD, METADATA, LabelledFolder
from .images.imagefile import SUFFIXES
from .line import Line
from .names import folder_name
from .record import ImageRecord

MANIFEST, DONE = "manifest.json", "DONE"
CARRIED = (CARD, "generation.json")  # files of the labelled folder that stand beside its shards
FORMAT = 1
MOST_BYTES = 256 * 2**20  # of the manifest, and of each file in CARRIED
MOST_IMAGE_BYTES = 512 * 2**20  # more than a lossless image of 100 million pixels
MOST_RECORD_BYTES = 16 * 2**20
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
_SHARD = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"([A-Za-z0-9_-]{1,100})\.([a-z]{3,4})", re.ASCII)


class ShardError(Exception):
    """What is wrong with a shard, in words."""


@dataclass(frozen=True)
class Shard:
    """A tar file: its name, SHA-256, size in bytes, and how many images it holds."""

    file: str
    sha256: str
    bytes: int
    images: int

    def __post_init__(self) -> None:
        numbers = (self.bytes, self.images)
        if any(type(each) is not int or each < 0 for each in numbers):
            raise ValueError(f"sizes of '{self.file}' that are no counts")
        if not (_SHARD.fullmatch(self.file) and _HASH.fullmatch(self.sha256)):
            raise ValueError(f"a name or hash that cannot be a shard's: {self.file!r}"[:200])


@dataclass(frozen=True)
class Manifest:
    """`files` maps each file of CARRIED that is there to its SHA-256; `classes` counts images."""

    shards: tuple[Shard, ...]
    classes: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """How many images all shards hold."""
        return sum(each.images for each in self.shards)

    def to_json(self) -> bytes:
        """The file's content."""
        value = {
            "format": FORMAT,
            "images": self.images,
            "classes": dict(self.classes),
            "shards": [asdict(each) for each in self.shards],
            "files": dict(self.files),
        }
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def holds_shards(root: Path) -> bool:
    """Whether a folder is meant as one of shards: it has a manifest or tar files, and neither
    records nor folders of images."""
    if not root.is_dir() or (root / METADATA).exists():
        return False
    if any(each.is_dir() for each in root.iterdir() if not each.name.startswith(".")):
        return False
    return (root / MANIFEST).is_file() or any(root.glob("*.tar"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete folder of shards.

    Raises:
        LabelsetError: the folder is not one, is not complete, or the manifest is damaged.
    """
    if not (folder / MANIFEST).is_file():
        hint = "it is a labelled folder already" if (folder / METADATA).exists() else "it has none"
        raise LabelsetError(
            f"{folder} is no folder of shards with a {MANIFEST}: {hint}; give one that "
            "`synthgrid export-data --to webdataset` has written"
        )
    if not (folder / DONE).is_file():
        raise LabelsetError(f"{folder} has no file {DONE}, so it is not complete; copy all of it")
    try:
        value = json.loads(read_limited(folder / MANIFEST))
        return _manifest(value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LabelsetError(
            f"{folder / MANIFEST} is damaged ({error}); copy or export the shards again"
        ) from error


def _manifest(value: Any) -> Manifest:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']!r}, expected {FORMAT}")
    shards = tuple(
        Shard(str(each["file"]), str(each["sha256"]), each["bytes"], each["images"])
        for each in value["shards"]
    )
    if len({each.file.casefold() for each in shards}) < len(shards):
        raise ValueError("a shard is named twice")
    files = {str(name): str(digest) for name, digest in value["files"].items()}
    if not files.keys() <= set(CARRIED):
        raise ValueError("it names files that do not belong to shards")
    return Manifest(shards, files=files)


def read_limited(path: Path) -> bytes:
    """The bytes of a regular file, no link, of at most MOST_BYTES.

    Raises:
        OSError: it cannot be read, or is a link.
        ValueError: it is larger.
    """
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    with open_regular(path) as file:
        # Not MOST_BYTES: all that is asked for is allocated first.
        data = file.read(min(os.fstat(file.fileno()).st_size, MOST_BYTES) + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path.name} has more than {MOST_BYTES // 2**20} MiB")
    return data


@dataclass(frozen=True)
class ShardImage:
    """An image of a shard: its record, the record's line, its bytes, and the place of these bytes
    in the tar file, where they can be read again without the rest."""

    record: ImageRecord
    line: bytes
    data: bytes
    offset: int


def read_shard(path: Path, shard: Shard) -> Iterator[ShardImage]:
    """The images of one shard, in its order, one in memory at a time.

    The bytes of the whole shard are compared with the manifest before the first image comes. What
    came before an error counts as little as what would have come after it.

    Raises:
        ShardError: the shard is missing, truncated, altered, or holds anything else.
    """
    if path.is_symlink():
        raise ShardError("it is a link; copy the file itself")
    try:
        with open_regular(path) as file:
            _check_bytes(file, shard)
            count = 0
            for key, suffix, line, data, offset in _samples(file):
                yield ShardImage(_record(key, suffix, data, line), line, data, offset)
                count += 1
    except OSError as error:
        raise ShardError(error.strerror or str(error)) from error
    if count != shard.images:
        raise ShardError(f"it holds {count} images, {shard.images} in the manifest")


def path_in(folder: LabelledFolder, record: ImageRecord) -> Path:
    """Where a shard's image is in the labelled folder that the shard was made from, if that is
    `folder`.

    Raises:
        ShardError: nowhere: the name leads out of the folder or to another class.
    """
    try:
        path = folder.path_of(record)
        if path.parent.name != folder_name(record.label):
            raise ShardError(f"{record.file_name} is not in the folder of its class")
    except LabelsetError as error:
        raise ShardError(str(error)) from error
    return path


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


def members(file: IO[bytes]) -> Iterator[tuple[str, bytes, int]]:
    """(name, bytes, where they begin) of the files in a tar that has nothing but plain files with
    short names.

    Stricter than `tarfile`: no links, devices, folders, sparse files or long names, and the sizes
    are bounded before anything is read.

    Raises:
        ShardError: the tar is truncated or holds anything else.
    """
    offset = 0
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
        yield info.name, data, offset + _BLOCK
        offset += _BLOCK + info.size + padding


def _samples(file: IO[bytes]) -> Iterator[tuple[str, str, bytes, bytes, int]]:
    """(key, the image's suffix, its record's line, its bytes, where they begin) of each image."""
    found = members(file)
    for name, data, offset in found:
        pair = {}
        for each, content, start in ((name, data, offset), next(found, ("", b"", 0))):
            pair[_split(each)] = (content, start)
        keys = {key for key, _ in pair}
        suffixes = {suffix for _, suffix in pair} - {".json"}
        if len(keys) != 1 or len(suffixes) != 1 or len(pair) != 2:
            raise ShardError(f"{name!r} in it is no image with its record beside it"[:200])
        key, suffix = keys.pop(), suffixes.pop()
        yield key, suffix, pair[key, ".json"][0], *pair[key, suffix]


def _split(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    suffix = f".{match[2]}" if match else ""
    if match is None or suffix not in (".json", *SUFFIXES.values()):
        raise ShardError(f"{name!r} in it is neither an image nor a record"[:200])
    return match[1], suffix


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

"""manifest.json of a folder of tar shards: which files belong to it, and their hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import CARD, METADATA, open_regular

from ...errors import FolderError
from ..run_folder import GENERATION

MANIFEST, DONE = "manifest.json", "DONE"
CARRIED = (CARD, GENERATION)  # files of the labelled folder that stand beside its shards
FORMAT = 1
MOST_BYTES = 256 * 2**20  # of the manifest, and of each file in CARRIED
_SHARD = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")
_HASH = re.compile(r"[0-9a-f]{64}")


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


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete folder of shards.

    Raises:
        FolderError: the folder is not one, is not complete, or the manifest is damaged.
    """
    if not (folder / MANIFEST).is_file():
        hint = "it is a labelled folder already" if (folder / METADATA).exists() else "it has none"
        raise FolderError(
            f"{folder} is no folder of shards with a {MANIFEST}: {hint}; give one that "
            "`synthgrid export-data --to webdataset` has written"
        )
    if not (folder / DONE).is_file():
        raise FolderError(f"{folder} has no file {DONE}, so it is not complete; copy all of it")
    try:
        value = json.loads(read_limited(folder / MANIFEST))
        return _manifest(value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FolderError(
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
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path.name} has more than {MOST_BYTES // 2**20} MiB")
    return data

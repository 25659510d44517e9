"""The images of a labelled folder, one by one, each with a record that is true of its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    METADATA,
    ImageRecord,
    LabelledFolder,
    Line,
    RowSet,
    holds_something,
    read_regular,
    sha256,
)
from comfy_nodes.labelset.card import Tally

from ...errors import FolderError
from ..run_folder import is_locked

Progress = Callable[[int, int], None]  # (images done, all images)


@dataclass(frozen=True)
class Entry:
    """One image: its record, the record's line as it stands in metadata.jsonl, the file's bytes."""

    record: ImageRecord
    line: bytes
    data: bytes


class Source:
    """A labelled folder in which every record has its image and every image its record.

    Making one reads metadata.jsonl and the folders' listings; `tally` then counts the records by
    label. Iterating reads the images, in the order of metadata.jsonl, and compares each with its
    SHA-256. Memory stays flat, at a few bytes an image.

    Raises:
        FolderError: it is no labelled folder, a client is writing it, or it is not sound; also
            while iterating.
        LabelsetError: metadata.jsonl or a class folder cannot be read.
    """

    def __init__(self, root: Path, on_progress: Progress | None = None) -> None:
        self.root = root
        self.tally = Tally()
        self.images = 0
        self._on_progress = on_progress
        self._labelled = LabelledFolder(root)
        if not (root / METADATA).is_file():
            raise FolderError(f"{root} has no {METADATA}; give a labelled folder")
        if is_locked(root):
            raise FolderError(f"a client is writing {root} now; wait for it")
        self._survey()
        if not self.images:
            raise FolderError(f"{root} has no images; make some with: synthgrid run")

    def __iter__(self) -> Iterator[Entry]:
        for number, line in enumerate(self._lines(), 1):
            record = line.record()
            yield Entry(record, line.data.rstrip(b"\r\n"), self._read(record))
            if self._on_progress is not None:
                self._on_progress(number, self.images)

    def _survey(self) -> None:
        """Counts the records and finds what is wrong without reading any image."""
        names, rows = self._labelled.image_names(), RowSet()
        for line in self._lines():
            try:
                record = line.record(errors="strict")
                path = self._labelled.path_of(record)
            except LabelsetError as error:
                raise self._unsound(f"line {line.number} of {METADATA}: {error}") from error
            claimed = names.claim(record.file_name)
            # None: a file system may list the name in another spelling.
            if claimed is None and not (path.is_file() and holds_something(path)):
                raise self._unsound(f"{record.file_name} is recorded and does not exist")
            if claimed is False or record.key in rows:
                raise self._unsound(f"{record.file_name} has two records, or its row has")
            rows.add(record.key)
            self.tally.add(record)
            self.images += 1
        for name in names:
            raise self._unsound(f"{name} has no record")

    def _lines(self) -> Iterator[Line]:
        for line in self._labelled.lines():
            if line.torn:
                raise self._unsound(f"the last line of {METADATA} is unfinished")
            if not line.blank:
                yield line

    def _read(self, record: ImageRecord) -> bytes:
        try:
            data = read_regular(self._labelled.path_of(record))
        except OSError as error:
            raise self._unsound(f"{record.file_name}: {error.strerror or error}") from error
        if sha256(data) != record.sha256:
            raise self._unsound(f"{record.file_name} is not the recorded file (SHA-256)")
        return data

    def _unsound(self, what: str) -> FolderError:
        return FolderError(
            f"{self.root} is not sound: {what}; see what is wrong with: synthgrid verify "
            f"{self.root}"
        )

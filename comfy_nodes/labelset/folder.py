"""LabelledFolder: a labelled folder on disk, for one writer at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ..errors import LabelsetError
from .card import CARD_MARK, Tally, data_set_card
from .files import append_durably, open_regular, read_regular, sha256, sync_folder, write_atomically
from .images.imagefile import SUFFIXES
from .index import FileNames, RowSet, holds_something, image_names
from .line import Line
from .names import folder_name
from .record import ImageRecord, read_record

log = logging.getLogger(__name__)

METADATA = "metadata.jsonl"
CARD = "README.md"
_WRITERS = 16  # threads; they mostly wait for the disk, which takes many files at once
_BOM = b"\xef\xbb\xbf"
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_CHUNK = 1000  # records per write


def _in_threads(function: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
    """The answers in order; for functions that mostly wait for the disk."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(len(items), _WRITERS)) as pool:
        return list(pool.map(function, items))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s: %s", path, error.strerror or error)


class LabelledFolder:
    """A labelled folder on disk, for one writer at a time.

    Opening reads nothing; `scan` reads the records and repairs the folder, `add` writes one image
    with its record. `rows` holds the keys and `tally` the counts of the records read or added so
    far; the records themselves stay on the disk (`lines` reads them), so that a folder of a million
    images takes little memory.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.rows = RowSet()
        self.tally = Tally()

    @property
    def metadata_path(self) -> Path:
        """The file of the records."""
        return self.root / METADATA

    def path_of(self, record: ImageRecord) -> Path:
        """The path at which a record's image is or should be.

        Raises:
            LabelsetError: the record's file_name leads out of the folder, or is not
                "<class folder>/<image file>".
        """
        parts = record.file_name.split("/")
        if (
            len(parts) != 2
            or folder_name(parts[0]) != parts[0]
            or folder_name(parts[1]) != parts[1]
        ):
            raise LabelsetError(
                f"record names the file '{record.file_name}'; "
                "expected '<class folder>/<image file>'"
            )
        return self.root / parts[0] / parts[1]

    def scan(self) -> None:
        """Reads every record into `rows` and `tally`; makes records and images agree after a crash.

        A record whose image is gone or has 0 bytes is dropped. An image without a record (after a
        kill between the two) gets back the record inside its file, if there is one and the file is
        complete. Half-written temporary files are removed.

        Raises:
            LabelsetError: metadata.jsonl has a malformed line other than an unfinished last one, or
                the folder cannot be read or written.
        """
        names = image_names(self.root, clear=True)
        last = self._read_records(names)
        if last is not None:
            names = image_names(self.root, clear=True)

            def keep(line: Line, record: ImageRecord) -> bool:
                is_last = last.get(record.key, line.number) == line.number
                return is_last and self._has_image(record, names)

            self.rewrite(keep)
            names = image_names(self.root, clear=True)
            self._read_records(names)
        self._restore(names)

    def find(self, record: ImageRecord) -> Path | None:
        """The existing file for a record's plan and index, in any format; None if there is none.

        A file of 0 bytes, which a power cut leaves behind, holds nothing and counts as none.
        """
        path = self.path_of(record)
        others = (
            path.with_name(path.stem + suffix)
            for suffix in SUFFIXES.values()
            if suffix != path.suffix
        )
        return next((each for each in (path, *others) if holds_something(each)), None)

    def add(self, record: ImageRecord, data: bytes, *, overwrite: bool = False) -> ImageRecord:
        """Writes one image's bytes, then its record. Returns the record and raises as `add_all`."""
        return self.add_all([(record, data)], overwrite=overwrite)[0]

    def add_all(
        self, items: Sequence[tuple[ImageRecord, bytes]], *, overwrite: bool = False
    ) -> list[ImageRecord]:
        """Writes many images' bytes, in threads, then all their records with one write.

        Every image is on the disk before the first record is. When this returns, images, records
        and their folders would survive a power cut; folders and records cost one wait per call.

        Returns:
            The records as written, with the hashes of their files.

        Raises:
            LabelsetError: an image of that plan and index exists and `overwrite` is off: then
                nothing is written. Or the folder cannot be written: complete images keep their
                records, and new images whose records cannot be written are deleted again. Where
                they have replaced others, `scan` gives them their records back.
        """
        replaced = self._make_way([record for record, _ in items], overwrite=overwrite)
        folders = {self.path_of(record).parent for record, _ in items}
        new_names = [
            place.parent
            for place in (self.root, self.metadata_path, *folders)
            if not place.exists()
        ]
        answers = _in_threads(self._write_image, items)
        written = [answer for answer in answers if isinstance(answer, ImageRecord)]
        try:
            _in_threads(sync_folder, sorted(folders))
            self._remove_other_formats([each for each in written if each.key in replaced])
            self.append(written)
        except LabelsetError:
            for record in written:
                if record.key not in replaced:
                    _remove(self.path_of(record))
            raise
        for folder in dict.fromkeys(new_names):
            sync_folder(folder)
        for record in written:
            self._note(record)
        for answer in answers:
            if isinstance(answer, LabelsetError):
                raise answer
        return written

    def _make_way(self, records: Sequence[ImageRecord], *, overwrite: bool) -> set[tuple[str, int]]:
        """Refuses existing images or, when overwriting, drops their records first.

        So a kill in between leaves no record of a file that was replaced. Returns the keys of the
        records whose images exist.
        """
        if len({record.file_name for record in records}) < len(records):
            raise LabelsetError(
                "two records of one call name the same file; give every image a name of its own"
            )
        existing = {
            record.key: path for record in records if (path := self.find(record)) is not None
        }
        if existing and not overwrite:
            raise LabelsetError(
                f"{next(iter(existing.values()))} exists; it is kept. "
                "Choose another folder, or turn on overwrite"
            )
        if existing:
            self._forget(records)
        return set(existing)

    def _write_image(self, item: tuple[ImageRecord, bytes]) -> ImageRecord | LabelsetError:
        """Writes one image. An error is returned, because the other images of the call go on."""
        record, data = item
        path = self.path_of(record)
        try:
            write_atomically(path, data)
        except LabelsetError as error:
            return error
        return replace(record, sha256=sha256(data))

    def _remove_other_formats(self, records: Iterable[ImageRecord]) -> None:
        """An image has one file, also when its format changes; the new one is on the disk now."""
        for path in map(self.path_of, records):
            for suffix in set(SUFFIXES.values()) - {path.suffix}:
                _remove(path.with_name(path.stem + suffix))

    def write_card(self) -> None:
        """Writes the data set card, README.md, from the records read or added so far.

        A card without SynthGrid's mark, such as one written by hand, is left alone.

        Raises:
            LabelsetError: the folder cannot be written.
        """
        path = self.root / CARD
        if path.exists() and not self._is_own(path):
            return
        write_atomically(path, data_set_card(self.tally).encode("utf-8", "replace"))

    @staticmethod
    def _is_own(card: Path) -> bool:
        try:
            return CARD_MARK.encode() in read_regular(card)
        except OSError:
            return False  # whatever it is, somebody else put it there

    def lines(self) -> Iterator[Line]:
        """The lines of metadata.jsonl without a byte order mark; none if the file does not exist.

        Raises:
            LabelsetError: the file cannot be read.
        """
        try:
            with open_regular(self.metadata_path) as file:
                for number, data in enumerate(file, 1):
                    yield Line(number, data.removeprefix(_BOM) if number == 1 else data)
        except FileNotFoundError:
            return
        except OSError as error:
            raise LabelsetError(
                f"cannot read {self.metadata_path}: {error.strerror or error}"
            ) from error

    def rewrite(
        self, keep: Callable[[Line, ImageRecord], bool], *, add: Iterable[ImageRecord] = ()
    ) -> None:
        """Rewrites metadata.jsonl without lines that are not records or for which `keep` is false.

        The lines that stay are unchanged, byte for byte, and in the same order; the records in
        `add` follow. All of it happens at once, so that a kill leaves no image without its record.

        Raises:
            LabelsetError: the folder cannot be written.
        """
        added = (record.to_json().encode("utf-8") + b"\n" for record in add)
        write_atomically(self.metadata_path, chain(self._kept(keep), added))
        sync_folder(self.root)

    def _kept(self, keep: Callable[[Line, ImageRecord], bool]) -> Iterator[bytes]:
        for line in self.lines():
            try:
                if not line.blank and keep(line, line.record()):
                    yield line.data + b"\n" * line.torn
            except LabelsetError:
                continue

    def _forget(self, records: Iterable[ImageRecord]) -> None:
        """Removes records before their images are replaced."""
        self.scan()
        gone = {record.key for record in records if record.key in self.rows}
        if not gone:
            return

        def keep(line: Line, record: ImageRecord) -> bool:
            if record.key in gone:
                self.tally.add(record, -1)
            return record.key not in gone

        self.rewrite(keep)
        for key in gone:
            self.rows.discard(key)

    def _note(self, record: ImageRecord) -> None:
        self.rows.add(record.key)
        self.tally.add(record)

    def _read_records(self, names: FileNames) -> dict[tuple[str, int], int] | None:
        """Counts the records whose images exist, and claims those images' names.

        Returns:
            None if nothing needs repair; otherwise, for each key with several lines, the number of
            the last one.
        """
        self.rows, self.tally = RowSet(), Tally()
        last: dict[tuple[str, int], int] = {}
        sound = True
        for line in self.lines():
            if line.blank:
                continue
            sound &= not line.torn
            try:
                record = line.record()
            except LabelsetError as error:
                if not line.torn:
                    raise LabelsetError(
                        f"{self.metadata_path} line {line.number}: {error}; fix or remove that "
                        f"line, or run: synthgrid verify {self.root} --repair"
                    ) from error
                continue
            has_image = self._has_image(record, names)
            if record.key in self.rows:
                last[record.key] = line.number
            elif has_image:
                self._note(record)
            sound &= has_image
        return None if sound and not last else last

    def _has_image(self, record: ImageRecord, names: FileNames) -> bool:
        """Whether the image exists and no earlier line has claimed it."""
        claimed = names.claim(record.file_name)
        # None: no such name in the listing, but a file system may list it in another spelling.
        if claimed is not None:
            return claimed
        path = self.root / record.file_name
        return path.is_file() and holds_something(path)

    def image_names(self, *, empty: bool = False) -> FileNames:
        """The images in the class folders; with `empty`, files of 0 bytes as well.

        Raises:
            LabelsetError: a folder cannot be read.
        """
        return image_names(self.root, empty=empty)

    def _restore(self, names: FileNames) -> None:
        """Adds the records inside complete images that no line names."""
        found: list[ImageRecord] = []
        for name in sorted(names):
            record = self._stray_record(self.root / name)
            if record is not None and record.file_name == name and record.key not in self.rows:
                self._note(record)
                found.append(record)
            if len(found) == _CHUNK:
                self.append(found)
                found = []
        self.append(found)

    @staticmethod
    def _stray_record(path: Path) -> ImageRecord | None:
        try:
            return read_record(read_regular(path))
        except (LabelsetError, OSError):
            return None

    def append(self, records: Iterable[ImageRecord]) -> None:
        """Appends the records of existing images, all or none; for new images use `add`.

        Waits until they are on the disk.

        Raises:
            LabelsetError: the folder cannot be written.
        """
        text = "".join(record.to_json() + "\n" for record in records)
        append_durably(self.metadata_path, text.encode("utf-8"))

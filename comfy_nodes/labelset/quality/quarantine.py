"""Sets rejected images aside: out of their labelled folder, into a folder beside it.

    <folder>.quarantine/<class folder>/<plan_id>-<index>@<attempt>.png    the same bytes
    <folder>.quarantine/metadata.jsonl                                    one line an image

A line is the image's record with the new file name, and says by which check and why it was
rejected: "rejected": {"check": "lite0-1a2b.csv", "reason": ..., "scores": {...}, "at": ...}. These
lines are also the memory of which attempts at a row were rejected, so that none is made twice.

Copies and their lines are on the disk before anything leaves the folder. So a kill loses nothing,
and the same call completes what it began.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from ...errors import LabelsetError
from ..files import append_durably, read_regular, sha256, sync_folder, write_atomically
from ..folder import CARD, LabelledFolder
from ..index import holds_something, image_names
from ..lock import writing
from ..record import ImageRecord
from .verdicts import Verdict, quarantine_folder

_TOGETHER = 64  # images that are moved between two writes of the metadata


@dataclass(frozen=True)
class SetAside:
    """What became of the rejected images of a check.

    `records` are those of the images that were moved to `folder`, as they were. `gone` images are
    not in the labelled folder any more, or not with the bytes that the check saw; these stay.
    """

    folder: Path
    records: tuple[ImageRecord, ...] = ()
    gone: int = 0


def set_aside(
    root: Path,
    verdicts: Iterable[Verdict],
    *,
    scorer: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> SetAside:
    """Moves the rejected images of a check out of the labelled folder `root`.

    An image counts as the rejected one if name and SHA-256 are those of the verdict, so that an old
    check never takes an image that was made since. Everything else in the folder stays.

    Args:
        scorer: the file name of the check, for the lines of the quarantine.
        on_progress: called with (images moved, images to move).

    Raises:
        LabelsetError: `root` has no records or is being written, a record is malformed, or a
            folder cannot be written.
    """
    rejected = {(each.file_name, each.sha256): each for each in verdicts if each.rejected}
    labelled, place = LabelledFolder(root), quarantine_folder(root)
    if not labelled.metadata_path.is_file():
        raise LabelsetError(f"{root} has no {labelled.metadata_path.name}; give a labelled folder")
    if not rejected:
        return SetAside(place)
    with writing(root):
        labelled.scan()
        found = _recorded(labelled, rejected)
        quarantine = _Quarantine(place, scorer)
        moved: list[ImageRecord] = []
        for start in range(0, len(found), _TOGETHER):
            moved += quarantine.move(labelled, found[start : start + _TOGETHER])
            if on_progress is not None:
                on_progress(min(start + _TOGETHER, len(found)), len(found))
        if moved:
            labelled.scan()  # drops the lines of the images that are gone
            if (root / CARD).exists():
                labelled.write_card()
    return SetAside(place, tuple(moved), len(rejected) - len(moved))


def rejected_attempts(root: Path, plan_id: str) -> dict[int, int]:
    """Index -> the highest attempt that was set aside, for the rows of a plan that have any.

    Raises:
        LabelsetError: the quarantine's records cannot be read.
    """
    highest: dict[int, int] = {}
    for record in records_of(LabelledFolder(quarantine_folder(root))):
        if record.plan_id == plan_id:
            highest[record.index] = max(record.attempt, highest.get(record.index, 0))
    return highest


def rejected_images(root: Path, plan_id: str) -> Counter[str]:
    """Label -> how many images of a plan were set aside, over all attempts.

    Raises:
        LabelsetError: the quarantine's records cannot be read.
    """
    records = records_of(LabelledFolder(quarantine_folder(root)))
    return Counter(record.label for record in records if record.plan_id == plan_id)


def _recorded(
    labelled: LabelledFolder, rejected: Mapping[tuple[str, str], Verdict]
) -> list[tuple[ImageRecord, Verdict]]:
    found = []
    for record in records_of(labelled):
        verdict = rejected.get((record.file_name, record.sha256))
        if verdict is not None:
            found.append((record, verdict))
    return found


def records_of(labelled: LabelledFolder) -> Iterator[ImageRecord]:
    """The records of a folder, without a last one that a kill cut off.

    Raises:
        LabelsetError: a line is not a record.
    """
    for line in labelled.lines():
        if line.blank:
            continue
        try:
            yield line.record()
        except LabelsetError as error:
            if not line.torn:  # a kill cut the last line off; its image is still where it was
                raise LabelsetError(
                    f"{labelled.metadata_path} line {line.number}: {error}; fix or remove that line"
                ) from error


class _Quarantine:
    """The folder of rejected images, for one writer at a time."""

    def __init__(self, place: Path, scorer: str) -> None:
        self._labelled = LabelledFolder(place)
        self._scorer = scorer
        self._at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        image_names(place, clear=True)  # removes what a kill left half-written
        self._listed = {record.file_name for record in records_of(self._labelled)}
        if any(line.torn for line in self._labelled.lines()):
            self._labelled.rewrite(lambda *_: True)

    def move(
        self, source: LabelledFolder, images: Sequence[tuple[ImageRecord, Verdict]]
    ) -> list[ImageRecord]:
        """Moves images; returns the records of those whose bytes are still the recorded ones."""
        with ThreadPoolExecutor(min(len(images), 8)) as pool:
            names = list(pool.map(lambda each: self._copy(source, each[0]), images))
        copied = [
            (record, verdict, name)
            for (record, verdict), name in zip(images, names, strict=True)
            if name is not None
        ]
        root = self._labelled.root
        for folder in {(root / name).parent for _, _, name in copied} | {root, root.parent}:
            if folder.is_dir():
                sync_folder(folder)
        self._list(copied)
        for record, _, _ in copied:
            _remove(source.path_of(record))
        for folder in {source.path_of(record).parent for record, _, _ in copied}:
            sync_folder(folder)
        return [record for record, _, _ in copied]

    def _copy(self, source: LabelledFolder, record: ImageRecord) -> str | None:
        """Copies an image; returns its name here, or None if its bytes have changed."""
        path = source.path_of(record)
        try:
            data = read_regular(path)
        except OSError as error:
            raise LabelsetError(f"cannot read {path}: {error.strerror or error}") from error
        if sha256(data) != record.sha256:
            return None
        own = PurePosixPath(record.file_name)
        name = own.with_name(f"{own.stem}@{record.attempt}{own.suffix}")
        if not self._may_hold(name, data):
            name = name.with_name(f"{name.stem}-{record.sha256[:8]}{name.suffix}")
        if not holds_something(self._labelled.root / name):
            write_atomically(self._labelled.root / name, data)
        return str(name)

    def _may_hold(self, name: PurePosixPath, data: bytes) -> bool:
        """Whether the name is free, or has these bytes already, from a call that was cut off."""
        path = self._labelled.root / name
        try:
            return not holds_something(path) or read_regular(path) == data
        except OSError:
            return False

    def _list(self, copied: Sequence[tuple[ImageRecord, Verdict, str]]) -> None:
        lines = [
            _line(replace(record, file_name=name), verdict, check=self._scorer, at=self._at)
            for record, verdict, name in copied
            if name not in self._listed
        ]
        self._listed |= {name for _, _, name in copied}
        append_durably(self._labelled.metadata_path, "".join(lines).encode("utf-8"))


def _line(record: ImageRecord, verdict: Verdict, *, check: str, at: str) -> str:
    why = {
        "check": check,
        "reason": verdict.reason,
        "scores": {name: each for name, each in verdict.scores.items() if math.isfinite(each)},
        "at": at,
    }
    text = json.dumps(record.to_dict() | {"rejected": why}, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode() + "\n"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LabelsetError(
            f"cannot remove {path}: {error.strerror or error}; it is copied to the quarantine; "
            "check permissions, then do the same again"
        ) from error

"""Takes an image out of the quarantine again: the same bytes, at the place where they were.

The inverse of `quarantine.set_aside`, for somebody who has changed their mind. The image and its
record are in the labelled folder before they leave the quarantine, so that a kill loses nothing and
the same call completes what it began.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...errors import LabelsetError
from ..files import read_regular, sha256, sync_folder, write_atomically
from ..folder import CARD, LabelledFolder
from ..lock import writing
from ..record import ImageRecord
from .quarantine import records_of
from .verdicts import quarantine_folder


def put_back(root: Path, name: str) -> ImageRecord:
    """Moves one image from the quarantine back into the labelled folder `root`.

    Args:
        name: the image's file_name in the records of the quarantine.

    Returns:
        The record as it was before the image was set aside.

    Raises:
        LabelsetError: the quarantine has no such image, or other bytes under its name; the labelled
            folder has an image of that plan and index, or anything else in the way; or a folder is
            being written, or cannot be written. Nothing is changed then.
    """
    labelled, quarantine = LabelledFolder(root), LabelledFolder(quarantine_folder(root))
    with writing(root):
        aside = _record_of(quarantine, name)
        record = replace(aside, file_name=original_name(aside))
        place = quarantine.path_of(aside)
        data = _bytes_of(place, aside)
        labelled.scan()
        target = labelled.path_of(record)
        if not _is_back(labelled, record, data):
            write_atomically(target, data)
            sync_folder(target.parent)
            labelled.append([record])
        quarantine.rewrite(lambda _, each: each.file_name != name)
        place.unlink(missing_ok=True)
        if (root / CARD).exists():
            labelled.scan()
            labelled.write_card()
    return record


def original_name(aside: ImageRecord) -> str:
    """The file_name before the image was set aside: "bat/p-000001@0.png" -> "bat/p-000001.png".

    Raises:
        LabelsetError: the name is not one that the quarantine gives.
    """
    own = PurePosixPath(aside.file_name)
    ending = rf"@{aside.attempt}(?:-{re.escape(aside.sha256[:8])})?"
    match = re.fullmatch(rf"(.+){ending}", own.stem, re.DOTALL)
    if match is None:
        raise LabelsetError(f"'{aside.file_name}' is not a name that the quarantine gives")
    return str(own.with_name(match[1] + own.suffix))


def _record_of(quarantine: LabelledFolder, name: str) -> ImageRecord:
    # All of them: a line that is no record would be lost when the others are written anew.
    for record in [each for each in records_of(quarantine) if each.file_name == name]:
        return record
    raise LabelsetError(f"{quarantine.root} has no image '{name}'; it may be back already")


def _bytes_of(place: Path, aside: ImageRecord) -> bytes:
    try:
        data = read_regular(place)
    except OSError as error:
        raise LabelsetError(f"cannot read {place}: {error.strerror or error}") from error
    if sha256(data) != aside.sha256:
        raise LabelsetError(f"{place} has changed since it was set aside; it stays there")
    return data


def _is_back(labelled: LabelledFolder, record: ImageRecord, data: bytes) -> bool:
    """Whether a call that was cut off has put the image back already.

    Raises:
        LabelsetError: another image has taken its place.
    """
    target = labelled.path_of(record)
    if record.key in labelled.rows or labelled.find(record) is not None:
        if _same(target, data):
            return record.key in labelled.rows
        raise LabelsetError(
            f"{labelled.root} has another image in place of {record.file_name}, made since; set "
            "that one aside first"
        )
    return False


def _same(path: Path, data: bytes) -> bool:
    try:
        return read_regular(path) == data
    except OSError:
        return False

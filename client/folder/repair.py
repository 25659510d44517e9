"""Repairs a labelled folder: moves bad files out, never deletes, restores records from images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import METADATA, LabelledFolder, sync_folder, write_atomically

from ..errors import FolderError
from .run_folder import locked
from .verify import Reading, Report


def repair(root: Path, *, on_progress: Callable[[int, int], None] | None = None) -> Report:
    """Verifies, then moves bad images into `quarantine_of(root)` and repairs metadata.jsonl.

    After a kill it can simply run again. The images in the report's `missing` must be made again.

    Raises:
        FolderError: as `verify`; or a client is writing the folder, or it cannot be written.
        LabelsetError: as `verify`, or the disk is full.
    """
    if not root.is_dir():
        raise FolderError(f"{root} is not a folder; give a labelled folder")
    with locked(root):
        reading = Reading(root, on_progress)
        report = reading.report()
        if not report.problems:
            return report
        place = quarantine_of(root)
        _take_away(root, reading, report, place)
        _mend(root, reading)
        return replace(report, problems=(), mended=len(report.problems), quarantine=place)


def quarantine_of(root: Path) -> Path:
    """A new folder beside `root`: "<root>.quarantine/<time>".

    Not inside it: torchvision's ImageFolder takes every folder for a class, even a hidden one.
    """
    root = root.resolve()
    time = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    places = (
        root.with_name(f"{root.name}.quarantine") / f"{time}{more}"
        for more in ("", *map("-{}".format, range(2, 99)))
    )
    return next(place for place in places if not place.exists())


def _take_away(root: Path, reading: Reading, report: Report, place: Path) -> None:
    """First saves what will change and the reasons, then moves the images."""
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    write_atomically(place / "problems.json", text.encode("utf-8", "replace"))
    try:
        if (root / METADATA).exists():
            shutil.copy2(root / METADATA, place / METADATA)
        for name in sorted(reading.move):
            if os.path.lexists(root / name) and not (root / name).is_dir():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(root / name, place / name)
        # Before the records change: else a power cut could bring a bad image back without its line.
        for name in {str(Path(each).parent) for each in reading.move}:
            sync_folder(place / name)
            sync_folder(root / name)
    except OSError as error:
        raise LabelsetError(
            f"cannot move files from {root} to {place}: {error.strerror or error}; "
            "check space and permissions, then repair again"
        ) from error


def _mend(root: Path, reading: Reading) -> None:
    labelled = LabelledFolder(root)
    labelled.rewrite(lambda line, record: line.number not in reading.drop, add=reading.add)
    labelled.scan()
    labelled.write_card()

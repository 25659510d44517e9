"""Compares a labelled folder with its files and its plan. Reads only; repair.py fixes what it can.

    report = verify(Path("data/synthetic"))
    report.sound, report.counts       # False, {"altered": 1}
    for problem in report.problems: print(problem.kind, problem.file, problem.detail)

Every image is read once: hash, decoding, size, the record inside, class folder, row of the plan.
With a sample, the other recorded images are only looked at: there, not empty, where planned.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import METADATA, ImageRecord, LabelledFolder, Line, RowSet

from ..errors import FolderError
from .image_check import ImageCheck, ImageChecker
from .report import KINDS, Problem, Report
from .run_folder import GENERATION, read_generation

__all__ = ["KINDS", "ImageCheck", "ImageChecker", "Problem", "Reading", "Report", "verify"]

# While one thread waits for the disk, the others hash and decode.
_THREADS = min(8, (os.cpu_count() or 1) + 1)
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def verify(
    root: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    share: float = 1.0,
) -> Report:
    """Reads the whole folder and changes nothing. `on_progress` gets (images done, all images).

    `share`, above 0 and up to 1, is the part of the recorded images that is read, drawn anew each
    time; one is always read, and every line of metadata.jsonl.

    Raises:
        FolderError: the folder does not exist, or its generation.json is damaged.
        LabelsetError: metadata.jsonl or a class folder cannot be read.
    """
    return Reading(root, on_progress, share=share).report()


@dataclass
class Reading:
    """One reading of a folder, and what to repair: lines to drop, files to move, records to add."""

    root: Path
    on_progress: Callable[[int, int], None] | None = None
    problems: list[Problem] = field(default_factory=list)
    drop: set[int] = field(default_factory=set)
    move: set[str] = field(default_factory=set)
    add: list[ImageRecord] = field(default_factory=list)
    images: int = 0
    unread: int = 0
    other_plans: int = 0
    share: float = 1.0

    def report(self) -> Report:
        """Reads everything. Raises as `verify` does."""
        if not self.root.is_dir():
            raise FolderError(f"{self.root} is not a folder; give a labelled folder")
        self.plan = read_generation(self.root).plan if (self.root / GENERATION).exists() else None
        self.labelled = LabelledFolder(self.root)
        self.rows = RowSet()  # those whose image is sound, or whose record can be restored
        self.groups: dict[object, list[tuple[Line, ImageRecord]]] = {}
        self.names = self.labelled.image_names(empty=True)
        self.total = sum(1 for _ in self.names)
        checker = ImageChecker(self.root, self.plan)
        numbers = itertools.count()

        def check(item: tuple[Line, ImageRecord]) -> ImageCheck:
            is_drawn = next(numbers) == 0 or random.random() < self.share
            look = checker.check if is_drawn else checker.glance
            return look(item[1].file_name, item[1])

        with ThreadPoolExecutor(_THREADS) as pool:
            single = self._single_lines()
            for (line, record), verdict in _in_threads(pool, check, single):
                self._settle(line, record, verdict)
            for group in self.groups.values():
                self._settle_group(
                    [(line, each, checker.check(each.file_name, each)) for line, each in group]
                )
            for name, verdict in _in_threads(
                pool, lambda name: checker.check(name, None), sorted(self.names)
            ):
                self._settle_stray(name, verdict)
        planned = None if self.plan is None else len(self.plan)
        return Report(
            self.root,
            self.images,
            planned,
            tuple(self.problems),
            self.missing(),
            self.other_plans,
            unread=self.unread,
        )

    def missing(self) -> dict[str, int]:
        """Label -> planned images that have to be made; empty if no plan is known."""
        if self.plan is None:
            return {}
        plan = self.plan
        missing = (index for index in range(len(plan)) if (plan.plan_id, index) not in self.rows)
        return dict(Counter(map(plan.label_of, missing)))

    def _single_lines(self) -> Iterator[tuple[Line, ImageRecord]]:
        """The lines with a row and a file of their own; the others go to `groups`."""
        shared = self._shared()
        for line in self.labelled.lines():
            record = self._record_on(line)
            if record is None:
                continue
            self.names.claim(record.file_name)
            owner: object = record.file_name if record.file_name in shared else record.key
            if owner in shared:
                self.groups.setdefault(owner, []).append((line, record))
            else:
                yield line, record

    def _shared(self) -> set[object]:
        """The file names and keys that appear on more than one line."""
        names, rows, shared = self.labelled.image_names(empty=True), RowSet(), set[object]()
        for line in self.labelled.lines():
            try:
                record = line.record(errors="strict")
            except LabelsetError:
                continue
            if names.claim(record.file_name) is False:
                shared.add(record.file_name)
            if record.key in rows:
                shared.add(record.key)
            rows.add(record.key)
        return shared

    def _record_on(self, line: Line) -> ImageRecord | None:
        if line.blank:
            return None
        if line.torn:
            self.problems.append(Problem("unfinished", METADATA, f"line {line.number}"))
        try:
            record = line.record(errors="strict")
            self.labelled.path_of(record)
        except LabelsetError as error:
            if not line.torn:
                self.problems.append(Problem("malformed", METADATA, f"line {line.number}: {error}"))
            self.drop.add(line.number)
            return None
        return record

    def _settle(self, line: Line, record: ImageRecord, verdict: ImageCheck) -> None:
        self._count(record.file_name, verdict)
        self.problems += verdict.problems
        if verdict.problems:
            self.drop.add(line.number)
        if not verdict.problems:
            self._accept(record)
        elif verdict.record is not None and verdict.record.key not in self.rows:
            self.add.append(verdict.record)
            self._accept(verdict.record)
        else:
            self.move.add(record.file_name)

    def _settle_group(self, group: list[tuple[Line, ImageRecord, ImageCheck]]) -> None:
        """Of several lines for one row or file, the last sound one counts, or else the last one."""
        winner = next((each for each in reversed(group) if not each[2].problems), group[-1])
        self._settle(*winner)
        for line, record, verdict in group:
            if line.number == winner[0].number:
                continue
            self.drop.add(line.number)
            detail = (
                f"line {line.number} of {METADATA}; "
                f"line {winner[0].number} has the same row or file"
            )
            self.problems.append(Problem("doubled", record.file_name, detail))
            if record.file_name != winner[1].file_name:
                self._count(record.file_name, verdict)
                self.move.add(record.file_name)

    def _settle_stray(self, name: str, verdict: ImageCheck) -> None:
        record = verdict.record
        twin = record is not None and record.key in self.rows
        if (
            record is not None
            and twin
            and _same_file(self.root / name, self.root / record.file_name)
        ):
            return  # the same file: the file system spells its name differently
        self._count(name, verdict)
        self.problems += verdict.problems
        if record is None or twin:
            self.move.add(name)
        else:
            self.add.append(record)
            self._accept(record)

    def _accept(self, record: ImageRecord) -> None:
        self.rows.add(record.key)
        self.other_plans += self.plan is not None and record.plan_id != self.plan.plan_id

    def _count(self, name: str, verdict: ImageCheck) -> None:
        if any(each.kind == "gone" for each in verdict.problems):
            return
        self.images += verdict.was_read
        self.unread += not verdict.was_read
        if self.on_progress is not None:
            self.on_progress(self.images + self.unread, self.total)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one != other and one.samefile(other)
    except OSError:
        return False


def _in_threads(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Answer], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Answer]]:
    """(item, function(item)) in order, a few items ahead, so that memory use stays constant."""
    waiting: deque[tuple[_Item, Future[_Answer]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) >= 4 * _THREADS:
            done, answer = waiting.popleft()
            yield done, answer.result()
    for done, answer in waiting:
        yield done, answer.result()

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    METADATA,
    ImageRecord,
    LabelledFolder,
    Line,
    RowSet,
    folder_name,
    image_file_names,
    inspect_image,
    portable,
)
from comfy_nodes.labelset import sha256 as sha256_of
from comfy_nodes.plan import GenerationPlan

from ..errors import FolderError
from .run_folder import GENERATION, read_generation

KINDS = {
    "damaged": "images that cannot be read or do not decode",
    "altered": "images whose bytes are not the recorded ones (SHA-256)",
    "size": "images with another width or height than recorded",
    "inside": "images whose embedded record differs from the one in metadata.jsonl",
    "folder": "images that are not where their record says",
    "plan": "records that differ from the planned row",
    "unrecorded": "images without a record",
    "gone": "records without an image",
    "unfinished": "an unfinished last line of metadata.jsonl",
    "malformed": "lines of metadata.jsonl that are not a record",
    "doubled": "records of a row or file that already has one",
}
_ROW_FIELDS = ("label", "prompt", "negative_prompt", "seed", "template", "context", "style")
# While one thread waits for the disk, the others hash and decode.
_THREADS = min(8, (os.cpu_count() or 1) + 1)
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `kind` is a key of KINDS.

    `file` is relative to the folder; METADATA if only a line of it is wrong.
    """

    kind: str
    file: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found. `images` were read; `planned` is None if no generation.json gives the plan.

    `unread` images were only looked at, where a sample was asked for.

    `missing` counts, by class, the planned images without a sound image or a record that can be
    restored. `other_plans` sound images belong to another plan than generation.json's. After a
    repair, `mended` problems are gone, and `quarantine` holds what was moved out.
    """

    folder: Path
    images: int
    planned: int | None
    problems: tuple[Problem, ...]
    missing: Mapping[str, int] = field(default_factory=dict)
    other_plans: int = 0
    mended: int = 0
    quarantine: Path | None = None
    unread: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong and no planned image is missing."""
        return not self.problems and not self.missing

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> number of problems, for the kinds that were found."""
        found = Counter(each.kind for each in self.problems)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "folder": str(self.folder),
            "sound": self.sound,
            "images": self.images,
            "unread": self.unread,
            "planned": self.planned,
            "missing": dict(self.missing),
            "counts": self.counts,
            "problems": [asdict(each) for each in self.problems],
            "other_plans": self.other_plans,
            "mended": self.mended,
            "quarantine": None if self.quarantine is None else str(self.quarantine),
        }


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


@dataclass(frozen=True)
class ImageCheck:
    """The result for one image. `record` is the true one; None if the image cannot be trusted."""

    problems: tuple[Problem, ...]
    record: ImageRecord | None
    was_read: bool = True


@dataclass(frozen=True)
class ImageChecker:
    """Checks one image at a time; safe for several threads."""

    root: Path
    plan: GenerationPlan | None

    def check(self, name: str, record: ImageRecord | None) -> ImageCheck:
        """What is wrong with the image `name`; `record` is its line in metadata.jsonl, if any."""
        try:
            data = (self.root / name).read_bytes()
        except FileNotFoundError:
            return ImageCheck((Problem("gone", name, "the file does not exist"),), None)
        except OSError as error:
            return ImageCheck((Problem("damaged", name, str(error)),), None)
        return self.check_data(name, record, data)

    def glance(self, name: str, record: ImageRecord) -> ImageCheck:
        """What can be told without reading the image."""
        try:
            size = (self.root / name).stat().st_size
        except FileNotFoundError:
            return ImageCheck((Problem("gone", name, "the file does not exist"),), None)
        except OSError as error:
            return ImageCheck((Problem("damaged", name, str(error)),), None)
        found = [] if size else [Problem("damaged", name, "it has 0 bytes")]
        found += self._about(name, record, None)
        return ImageCheck(tuple(found), None, was_read=False)

    def check_data(self, name: str, record: ImageRecord | None, data: bytes) -> ImageCheck:
        """As `check`, for the bytes of an image that may not be in the folder yet."""
        try:
            inside, size = inspect_image(data)
        except LabelsetError as error:
            return ImageCheck((Problem("damaged", name, str(error)),), None)
        about = record or inside
        found = [] if record is None else list(_against(name, record, inside, sha256_of(data)))
        found += [] if about is None else self._about(name, about, size)
        if record is None:
            story = "a record is inside it" if inside else "it holds no record either"
            found = [Problem("unrecorded", name, story), *found]
        as_added = inside is not None and (record is None or record.sha256 == inside.sha256)
        true = as_added and inside is not None and not self._about(name, inside, size)
        return ImageCheck(tuple(found), inside if true else None)

    def _about(self, name: str, record: ImageRecord, size: tuple[int, int] | None) -> list[Problem]:
        """Whether the record fits this path, this (width, height), and its row of the plan."""
        found = []
        if record.file_name != name:
            found.append(Problem("folder", name, f"its record names {record.file_name}"))
        elif name.partition("/")[0] != _folder_of(record):
            found.append(Problem("folder", name, f"its label is '{record.label}'"))
        found += [] if size is None else _size_problems(name, record, size)
        found += [Problem("plan", name, each) for each in self._against_plan(record)]
        return found

    def _against_plan(self, record: ImageRecord) -> Iterator[str]:
        if self.plan is None or record.plan_id != self.plan.plan_id:
            return
        if not 0 <= record.index < len(self.plan):
            yield f"row {record.index} is not planned; the plan has rows 0 to {len(self.plan) - 1}"
            return
        row = self.plan.row(record.index)
        wrong = [
            each for each in _ROW_FIELDS if getattr(record, each) != portable(getattr(row, each))
        ]
        if wrong:
            ours, planned = getattr(record, wrong[0]), getattr(row, wrong[0])
            yield f"row {record.index}: {wrong[0]} {ours!r}, planned {planned!r}"
        elif record.file_name not in image_file_names(row.label, record.plan_id, record.index):
            right = image_file_names(row.label, record.plan_id, record.index)[0]
            yield f"row {record.index} belongs in {right}"


def _size_problems(name: str, record: ImageRecord, size: tuple[int, int]) -> list[Problem]:
    recorded = tuple(
        record.settings.get(side, pixels)
        for side, pixels in zip(("width", "height"), size, strict=True)
    )
    if recorded == size:
        return []
    detail = f"{size[0]}x{size[1]}, recorded as {recorded[0]}x{recorded[1]}"
    return [Problem("size", name, detail)]


def _folder_of(record: ImageRecord) -> str | None:
    try:
        return folder_name(record.label)
    except LabelsetError:
        return None


def _against(
    name: str, record: ImageRecord, inside: ImageRecord | None, digest: str
) -> Iterator[Problem]:
    """How the line of metadata.jsonl and the file differ."""
    if record.sha256 != digest:
        yield Problem(
            "altered", name, f"SHA-256 {digest[:12]}..., recorded as {record.sha256[:12]}..."
        )
    if inside is None:
        yield Problem("inside", name, "it has no record inside")
        return
    one, other = vars(record), vars(inside)
    wrong = [each for each in one if each != "sha256" and one[each] != other[each]]
    if wrong:
        text = f"{wrong[0]} {one[wrong[0]]!r}, inside {other[wrong[0]]!r}"
        yield Problem("inside", name, text if len(text) < 200 else f"{', '.join(wrong)} differ")


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
        labels = [entry.name for entry in self.plan.classes]
        missing = (
            index for index in range(len(self.plan)) if (self.plan.plan_id, index) not in self.rows
        )
        return dict(Counter(labels[index % len(labels)] for index in missing))

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

"""Checks one image of a labelled folder against its record, the record inside it, and the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    ImageRecord,
    folder_name,
    image_file_names,
    inspect_image,
    portable,
    read_regular,
)
from comfy_nodes.labelset import sha256 as sha256_of
from comfy_nodes.plan import MOST_ATTEMPTS
from comfy_nodes.plan.caption_plan import AnyPlan

from .report import Problem

_ROW_FIELDS = (
    *("label", "prompt", "negative_prompt", "seed", "template", "context", "style", "strength"),
)


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
    plan: AnyPlan | None

    def check(self, name: str, record: ImageRecord | None) -> ImageCheck:
        """What is wrong with the image `name`; `record` is its line in metadata.jsonl, if any."""
        try:
            data = read_regular(self.root / name)
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
        if not 0 <= record.attempt <= MOST_ATTEMPTS:
            yield f"row {record.index}: attempt {record.attempt} is outside 0..{MOST_ATTEMPTS}"
            return
        row = self.plan.row(record.index, attempt=record.attempt)
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

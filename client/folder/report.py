"""What a verification found: problems of images and lines, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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

"""Rejected images make way for new ones: set aside, made again, and checked once more.

    until_full(check, make_again)      # until a check rejects nothing that may be made again

A check is a callable that returns the file of its verdicts, so that this package knows nothing of
how images are judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes.labelset.quality.verdicts import checks_of, quality_folder
from comfy_nodes.plan.caption_plan import AnyPlan

from ..errors import FolderError
from .runner import RunSummary


@dataclass(frozen=True)
class Failing:
    """A class and a template of which `images` rows were rejected in every attempt.

    The template of captions is the caption. `planned` is how many images the class should have.
    """

    label: str
    template: str
    images: int
    planned: int


def failing(plan: AnyPlan, used_up: Iterable[int]) -> list[Failing]:
    """The classes and templates that these rows come from, the worst first."""
    rows = map(plan.row, used_up)
    counts = Counter((row.label, row.template or row.prompt) for row in rows)
    planned = plan.counts() if counts else {}
    return [
        Failing(label, template, count, planned[label])
        for (label, template), count in counts.most_common()
    ]


@dataclass(frozen=True)
class Doubtful:
    """A class of which a check rejected `rejected` images and accepted `accepted`."""

    label: str
    rejected: int
    accepted: int


def doubtful(rejected: Mapping[str, int], accepted: Mapping[str, int]) -> list[Doubtful]:
    """The classes of which at least half of all images were rejected, the worst first.

    Enough attempts at a class that the model cannot make will pass any check by chance. The half is
    our choice.
    """
    found = [
        Doubtful(label, count, accepted[label])
        for label, count in rejected.items()
        if accepted.get(label, 0) and count >= accepted[label]
    ]
    return sorted(found, key=lambda each: each.rejected / each.accepted, reverse=True)


def newest_check(root: Path) -> Path:
    """The file of the last check of a labelled folder.

    Raises:
        FolderError: there is none.
    """
    files = checks_of(root)
    if not files:
        raise FolderError(
            f"no check of {root}: {quality_folder(root)} has no .csv file; make one with: "
            f"synthgrid check {root} --real DIR"
        )
    return files[0]


def until_full(
    check: Callable[[], Path], make_again: Callable[[Path], RunSummary], first: Path | None = None
) -> RunSummary:
    """Checks and makes again, in turn, until nothing is left to make; returns the last result.

    It ends, because `make_again` makes a row only so often. Then every image of the folder has been
    accepted by the last check. `first` is a check that has been done already.
    """
    while True:
        done = make_again(first or check())
        first = None
        if not done.made:
            return done

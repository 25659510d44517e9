"""What names a cell of a grid, and which cells its answer is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from trainer.arms import (
    BASELINE,
    BUDGETS,
    SHARED_BUDGET,
    augmented_real,
    control_of,
    plain_arm,
)
from trainer.config.selection import RANDOM

HEADLINE_METRIC = "f1"


@dataclass(frozen=True, order=True)
class CellKey:
    """A cell of a grid; `ratio` is the arm's amount. The real-only cell of a model has the budget
    "both"."""

    model: str
    arm: str = BASELINE
    budget: str = SHARED_BUDGET
    regime: str = BASELINE
    ratio: float = 0.0
    source: str = ""

    @property
    def is_baseline(self) -> bool:
        """Whether this is the cell that the others of its model are compared with."""
        return self.arm == BASELINE


def random_twin(key: CellKey, cells: Collection[CellKey]) -> CellKey | None:
    """The cell that differs from `key` in drawing as many images without its filter, if there is
    one."""
    beside = {
        each
        for each in cells
        if each.source != key.source
        and replace(each, arm=key.arm, source=key.source) == key
        and _unfiltered(each.source, key.source)
    }
    return next(iter(beside), None)


def control_cell(key: CellKey, cells: Collection[CellKey]) -> CellKey | None:
    """The control of a cell that tells real and synthetic images apart, if there is one: see
    `control_of`."""
    wanted = (key.model, control_of(key.arm), key.budget)
    return next((each for each in cells if (each.model, each.arm, each.budget) == wanted), None)


def augmented_cell(key: CellKey, cells: Collection[CellKey]) -> CellKey | None:
    """The cell of the real images alone with the augmentation that an arm with synthetic ones has,
    if there is one: see `augmented_real`."""
    wanted = (key.model, augmented_real(key.arm)) if key.source else ()
    return next((each for each in cells if (each.model, each.arm) == wanted), None)


def _unfiltered(source: str, filtered: str) -> bool:
    pairs = list(zip(source.split("+"), filtered.split("+"), strict=False))
    return len(source.split("+")) == len(filtered.split("+")) and all(
        one in (other, other + RANDOM) for one, other in pairs
    )


def headline_keys(cells: Sequence[CellKey]) -> tuple[CellKey, ...]:
    """The cells that one model's answer is about: for each synthetic source the largest amount
    added, under the first budget. Without an additive arm it is the last one with synthetic images.
    Arms that tell real and synthetic images apart are beside them, never the answer.

    The choice depends on nothing but the plan. Picking the best cell, or the largest of those that
    are finished, would make any answer look good.
    """
    compared = [key for key in cells if not key.is_baseline and plain_arm(key.arm) == key.arm]
    first = next((each for each in BUDGETS if any(key.budget == each for key in compared)), "")
    compared = [key for key in compared if key.budget in (SHARED_BUDGET, first)]
    twins = {random_twin(key, cells) for key in compared}
    compared = [key for key in compared if key not in twins]
    adding = [key for key in compared if key.regime == "add"]
    if not adding:
        return tuple([key for key in compared if key.source][-1:])
    largest = {key.source: key for key in sorted(adding, key=lambda key: key.ratio)}
    return tuple(largest[source] for source in dict.fromkeys(key.source for key in adding))

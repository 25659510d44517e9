"""Rows: what every kind of plan has in common, and ImageSpec, one row of a plan.

Standard library only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import PlanError

MAX_SEED = 2**53 - 1  # browsers hold numbers as doubles and mangle larger integers
MOST_ATTEMPTS = 9_999  # further ones, at one row
MOST_PER_PROMPT = 1_000_000  # images


@dataclass(frozen=True)
class ImageSpec:
    """One row of a plan: everything that decides one image, apart from the generator's settings.

    `seed` is in [0, 2**53). `template`, `context` and `style` are the entries that the prompt was
    made from, as they were written; the last two are None where the prompt does not use them. A
    prompt that is a caption has no template: "". `attempt` counts how often the row was made
    before and rejected. `strength`, in (0, 1], is how far the image may move away from the real one
    that it starts from; None if the plan has none.
    """

    index: int
    label: str
    prompt: str
    negative_prompt: str
    seed: int
    template: str
    context: str | None = None
    style: str | None = None
    attempt: int = 0
    strength: float | None = None


class Rows(ABC):
    """A sequence of ImageSpec rows that is known exactly before the first image is made.

    `plan_id` is twelve hexadecimal digits of all that a row depends on. It does not follow from how
    many images are made of each class or caption, which is what `length_key` of `to_dict` says: a
    longer plan is the same plan.
    """

    length_key: ClassVar[str]
    seed: int

    @property
    @abstractmethod
    def plan_id(self) -> str: ...

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Every label, once, in order."""

    @property
    def strengths(self) -> tuple[float, ...]:
        """Of which every row has one, each in (0, 1]; none where a plan has no strengths."""
        return ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int, *, attempt: int = 0) -> ImageSpec: ...

    @abstractmethod
    def label_of(self, index: int) -> str:
        """The label of a row, without making the row."""

    @abstractmethod
    def source_position(self, index: int) -> int:
        """Which number among the images of its label a row has, where it starts from real ones."""

    @abstractmethod
    def counts(self, rows: range | None = None) -> dict[str, int]:
        """Images per label, in order: of all rows, or of these; labels without any are left out."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]: ...

    def __iter__(self) -> Iterator[ImageSpec]:
        return (self.row(index) for index in range(len(self)))

    def batch_count(self, batch_size: int) -> int:
        """How many batches of `batch_size` rows the plan has; the last one may be smaller.

        Raises:
            PlanError: the batch size is below 1.
        """
        if batch_size < 1:
            raise PlanError(f"batch size is {batch_size}; it must be 1 or more")
        return -(-len(self) // batch_size)

    def batch(self, batch_index: int, batch_size: int) -> tuple[ImageSpec, ...]:
        """The rows of batch `batch_index`, counted from 0.

        Raises:
            PlanError: the batch is past the end of the plan, or the batch size is below 1.
        """
        count = self.batch_count(batch_size)
        if not 0 <= batch_index < count:
            raise PlanError(
                f"batch_index {batch_index} is past the end: this plan has {count} batches of "
                f"{batch_size}, numbered 0 to {count - 1}; set batch_index back to 0"
            )
        start = batch_index * batch_size
        return tuple(self.row(index) for index in range(start, min(start + batch_size, len(self))))

    def _refuse_outside(self, index: int, attempt: int) -> None:
        if not 0 <= index < len(self):
            raise PlanError(f"row {index} is outside the plan, which has rows 0 to {len(self) - 1}")
        if not 0 <= attempt <= MOST_ATTEMPTS:
            raise PlanError(f"attempt {attempt} at image {index} is outside 0..{MOST_ATTEMPTS}")


def refuse_numbers(seed: int, images_per_prompt: int) -> None:
    """Raises PlanError for a seed or a number of images per prompt that no plan can have."""
    if not 0 <= seed <= MAX_SEED:
        raise PlanError(f"plan seed {seed} is outside 0..{MAX_SEED}")
    if not 1 <= images_per_prompt <= MOST_PER_PROMPT:
        raise PlanError(
            f"images per prompt is {images_per_prompt}; it must be 1 to {MOST_PER_PROMPT}"
        )

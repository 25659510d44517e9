"""CaptionPlan: images of captions, which are prompts as they are, without classes and templates.

    plan = CaptionPlan(parse_captions("a red bus\na dog in snow"), images_per_caption=4)
    len(plan)      # 8
    plan.row(3)    # ImageSpec(index=3, label='captions', prompt='a dog in snow', seed=..., ...)

Rows cycle through the captions: row i is image `i // captions` of caption `i % captions`. So more
images per caption only append rows, and `plan_id` ignores how many there are; it covers every
caption and label, in order. Standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from ..errors import PlanError
from .captions import Captions
from .classes import ClassEntry
from .draws import hash_integer
from .generation_plan import GenerationPlan, fingerprint
from .rows import ImageSpec, Rows, refuse_numbers
from .templates import PromptTemplates


@dataclass(frozen=True)
class CaptionPrompts:
    """What stands in for prompt templates where prompts are captions."""

    negative_prompt: str = ""


@dataclass(frozen=True)
class CaptionPlan(Rows):
    """A pure function from (captions, images per caption, seed) to ImageSpec rows.

    With a part of the captions it has the whole plan's id and length, and only the rows of these.

    Raises:
        PlanError: a count below 1, or a seed outside [0, 2**53).
    """

    length_key: ClassVar[str] = "images_per_caption"

    captions: Captions
    negative_prompt: str = ""
    images_per_caption: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_numbers(self.seed, self.images_per_caption)

    @cached_property
    def plan_id(self) -> str:
        """Twelve hexadecimal digits of all that a row depends on; not of `images_per_caption`."""
        return fingerprint(self.to_dict() | {self.length_key: None})

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the captions, in the order in which they first appear."""
        return self.captions.labels

    def __len__(self) -> int:
        return self.captions.total * self.images_per_caption

    def row(self, index: int, *, attempt: int = 0) -> ImageSpec:
        """Row `index`, 0 <= index < len(self). Another `attempt` changes the seed alone.

        Raises:
            PlanError: the index is outside the plan or this part of it, or the attempt outside
                0..MOST_ATTEMPTS.
        """
        self._refuse_outside(index, attempt)
        image, number = divmod(index, self.captions.total)
        kind = ("caption", image, "attempt", attempt) if attempt else ("caption", image)
        return ImageSpec(
            index=index,
            label=self.captions.label(number),
            prompt=self.captions.caption(number),
            negative_prompt=self.negative_prompt,
            seed=hash_integer(self.seed, *kind, number) >> 11,
            template="",
            attempt=attempt,
        )

    def label_of(self, index: int) -> str:
        """The label of a row's caption."""
        return self.captions.label(index % self.captions.total)

    def source_position(self, index: int) -> int:
        """The row itself: how many captions before it have its label is not counted."""
        return index

    def counts(self, rows: range | None = None) -> dict[str, int]:
        """Images per label, of all rows or of a range of them, in the order of the labels."""
        rows = range(len(self)) if rows is None else rows
        until = _before(self.captions, rows.stop)
        until.subtract(_before(self.captions, rows.start))
        return {label: until[label] for label in self.labels if until[label]}

    def to_dict(self) -> dict[str, Any]:
        """What identifies the plan, as JSON values; the captions themselves are not in it."""
        return {
            "captions": {"count": self.captions.total, "sha256": self.captions.digest},
            "negative_prompt": self.negative_prompt,
            "images_per_caption": self.images_per_caption,
            "seed": self.seed,
        }


def _before(captions: Captions, row: int) -> Counter[str]:
    """Images per label in the rows before this one."""
    rounds, rest = divmod(row, captions.total)
    counts = Counter({label: count * rounds for label, count in captions.counts().items()})
    counts.update(captions.counts(0, rest))
    return counts


AnyPlan = GenerationPlan | CaptionPlan


def plan_of(
    classes: tuple[ClassEntry, ...] | Captions,
    templates: PromptTemplates | CaptionPrompts,
    images_per_class: int,
    seed: int,
    images_per_prompt: int,
    strengths: tuple[float, ...] = (),
) -> AnyPlan:
    """The plan of what feeds a batcher; with captions, `images_per_class` is not used.

    Raises:
        PlanError: as the plan does, captions without their own prompts, or the reverse, or captions
            with strengths.
    """
    if isinstance(classes, Captions) and isinstance(templates, CaptionPrompts):
        if strengths:
            raise PlanError("captions take no strengths: set the scheduler's denoise to one number")
        return CaptionPlan(classes, templates.negative_prompt, images_per_prompt, seed)
    if isinstance(classes, Captions) or isinstance(templates, CaptionPrompts):
        raise PlanError(
            "captions are prompts already, and take no templates: connect both outputs of "
            "SynthGrid Captions to the batcher, or neither"
        )
    return GenerationPlan(classes, templates, images_per_class, seed, images_per_prompt, strengths)


def is_caption_plan(values: Mapping[str, Any]) -> bool:
    """Whether the `to_dict` of a plan is that of a CaptionPlan."""
    return "captions" in values


def caption_plan_from(values: Mapping[str, Any], captions: Captions) -> CaptionPlan:
    """The plan that `CaptionPlan.to_dict` described, with its captions.

    Raises:
        PlanError: they are other captions.
    """
    plan = CaptionPlan(
        captions, values["negative_prompt"], values["images_per_caption"], values["seed"]
    )
    if plan.to_dict()["captions"] != values["captions"]:
        raise PlanError(
            f"other captions: {captions.total}, SHA-256 {captions.digest[:12]}..., not "
            f"{values['captions']['count']}, {str(values['captions']['sha256'])[:12]}..."
        )
    return plan

"""GenerationPlan: which images to make, known exactly before the first one is made.

    templates = PromptTemplates(("a photo of a {class}",))
    plan = GenerationPlan(parse_classes("badger\nbat"), templates, images_per_class=30)
    len(plan)          # 60
    plan.row(7)        # ImageSpec(index=7, label='bat', prompt='a photo of a bat', seed=..., ...)
    plan.batch(0, 8)   # the first eight rows

Rows cycle through the classes: row i is image `i // len(classes)` of class `i % len(classes)`. So a
row never depends on the batch size, on how many rows are asked for, or on how many images a class
has now or later; more images per class only append rows. For the same reason `plan_id` ignores
`images_per_class`: an extended plan is the same plan, only longer, and its finished images keep
their names.

A bank may give a class its own contexts, styles and definition (comfy_nodes.banks). With
`images_per_prompt` K, K images in a row of a class share their prompt, so that a folder has groups
of images with one caption.

With `strengths`, image i of every class has the same one of them, so that neighbouring rows mostly
share a sampler call. Each class uses all strengths about equally often.

A row can be made again: attempt 0 is the row itself, and each further attempt has another seed and
is otherwise the same. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from ..banks.prompt_bank import ClassBank
from ..errors import PlanError
from ..listing import listing
from .alternatives import parse
from .classes import ClassEntry, refuse_duplicates
from .draws import draw, hash_integer
from .rows import ImageSpec, Rows, refuse_numbers
from .strengths import check_strengths
from .templates import (
    BANK_OF,
    PromptTemplates,
    filled,
)

MOST_PER_CLASS = 1_000_000  # images
MOST_PER_BATCH = 4096  # images
# In plans that have alternatives or wildcards: how to read them. Another way gets another name.
SYNTAX = "alternatives and wildcards"


@dataclass(frozen=True)
class GenerationPlan(Rows):
    """A pure function from (classes, templates, images per class, seed) to ImageSpec rows.

    Raises:
        PlanError: no classes, a class given twice, a count below 1, a seed outside [0, 2**53), a
            strength outside (0, 1] or given twice, or a template that uses {definition}, {context}
            or {style} where a class has none.
    """

    length_key: ClassVar[str] = "images_per_class"

    classes: tuple[ClassEntry, ...]
    templates: PromptTemplates = field(default_factory=PromptTemplates)
    images_per_class: int = 30
    seed: int = 0
    images_per_prompt: int = 1
    strengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise PlanError("no classes; give at least one class name")
        refuse_duplicates([entry.name for entry in self.classes])
        if not 1 <= self.images_per_class <= MOST_PER_CLASS:
            raise PlanError(
                f"images per class is {self.images_per_class}; it must be 1 to {MOST_PER_CLASS}"
            )
        refuse_numbers(self.seed, self.images_per_prompt)
        check_strengths(self.strengths)
        # Entries of other classes change no row: they must not change the plan's id.
        labels = {entry.name for entry in self.classes}
        object.__setattr__(self, "templates", self.templates.for_classes(labels))
        self._refuse_missing()

    def _refuse_missing(self) -> None:
        texts, names = self.templates, self.templates.names
        if "definition" in names:
            missing = [entry.name for entry in self.classes if not texts.definition(entry)]
            if missing:
                raise PlanError(
                    f"a template uses {{definition}} but these classes have none: "
                    f"{listing(missing)}; write them as 'name: definition'"
                )
        for name in BANK_OF:
            missing = [
                entry.name
                for entry in self.classes
                if name in names and not texts.bank(name, entry.name)
            ]
            if missing:
                raise PlanError(
                    f"a template uses {{{name}}} but these classes have no {name}s: "
                    f"{listing(missing)}; add some to the bank, for these classes or for all"
                )

    @cached_property
    def plan_id(self) -> str:
        """Twelve hexadecimal digits of all that a row depends on; not of `images_per_class`."""
        return fingerprint(self.to_dict() | {"images_per_class": None})

    def __len__(self) -> int:
        return len(self.classes) * self.images_per_class

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(entry.name for entry in self.classes)

    def label_of(self, index: int) -> str:
        """The class of a row."""
        return self.classes[index % len(self.classes)].name

    def source_position(self, index: int) -> int:
        """Which image of its class a row is, from 0."""
        return index // len(self.classes)

    def row(self, index: int, *, attempt: int = 0) -> ImageSpec:
        """Row `index`, 0 <= index < len(self), in a time that does not grow with the index.

        Another `attempt`, up to MOST_ATTEMPTS, changes the seed alone: alternatives and wildcards
        are drawn from the seed of attempt 0, so the prompt stays.

        Raises:
            PlanError: the index is outside the plan, or the attempt outside 0..MOST_ATTEMPTS.
        """
        self._refuse_outside(index, attempt)
        position, class_index = divmod(index, len(self.classes))
        entry = self.classes[class_index]
        texts = self.templates
        group = position // self.images_per_prompt
        # Alternatives and wildcards of a prompt follow from the seed of its first image.
        first = self._seed(entry.name, group * self.images_per_prompt)
        template = draw(texts.templates, self.seed, entry.name, "template", group)
        pieces = texts.pieces(template, first)
        drawn: dict[str, str] = {}
        values = {"class": entry.name, "definition": texts.definition(entry)}
        for kind in BANK_OF:
            if kind in pieces[1::2]:
                bank = texts.bank(kind, entry.name)
                drawn[kind] = draw(bank, self.seed, entry.name, kind, group)
                values[kind] = texts.text(kind, drawn[kind], first)
        if attempt:
            seed = hash_integer(self.seed, entry.name, "attempt", attempt, position) >> 11
        else:
            seed = first if self.images_per_prompt == 1 else self._seed(entry.name, position)
        return ImageSpec(
            index=index,
            label=entry.name,
            prompt=filled(pieces, values),
            negative_prompt=texts.negative_prompt,
            seed=seed,
            template=template,
            context=drawn.get("context"),
            style=drawn.get("style"),
            attempt=attempt,
            strength=self._strength(position),
        )

    def _strength(self, position: int) -> float | None:
        """The same for all classes; an image of its own, not its prompt, has it."""
        if not self.strengths:
            return None
        return draw(self.strengths, self.seed, "", "strength", position)

    def _seed(self, label: str, position: int) -> int:
        return hash_integer(self.seed, label, "seed", position) >> 11

    def counts(self, rows: range | None = None) -> dict[str, int]:
        """Images per label, in class order: of all rows, or of a range of them."""
        if rows is None:
            return dict.fromkeys(self.labels, self.images_per_class)
        step = len(self.classes)
        each = (range(rows.start + (n - rows.start) % step, rows.stop, step) for n in range(step))
        return {label: len(own) for label, own in zip(self.labels, each, strict=True) if own}

    def to_dict(self) -> dict[str, Any]:
        """The plan's inputs as plain JSON values; `GenerationPlan.from_dict` reads them back.

        What a plan does not use has no key, so that plans keep the id that they always had.
        """
        texts = self.templates
        more: dict[str, Any] = {}
        if texts.expands:
            more |= {"syntax": SYNTAX, "wildcards": dict(texts.wildcards)}
        if texts.per_class:
            more["per_class"] = {name: own.to_dict() for name, own in texts.per_class}
        if self.images_per_prompt != 1:
            more["images_per_prompt"] = self.images_per_prompt
        if self.strengths:
            more["strengths"] = list(self.strengths)
        return more | {
            "classes": [
                {"name": entry.name, "definition": entry.definition} for entry in self.classes
            ],
            "templates": list(self.templates.templates),
            "negative_prompt": self.templates.negative_prompt,
            "contexts": list(self.templates.contexts),
            "styles": list(self.templates.styles),
            "images_per_class": self.images_per_class,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationPlan:
        """The plan that `to_dict` described. Raises PlanError as the constructor does."""
        syntax = values.get("syntax")
        if syntax not in (None, SYNTAX):
            raise PlanError(f"this plan has the syntax {syntax!r}; a newer SynthGrid has made it")
        if syntax is None and _has_special(values):
            return cls._from_dict(values, is_literal=True)
        return cls._from_dict(values, is_literal=False)

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any], *, is_literal: bool) -> GenerationPlan:
        return cls(
            classes=tuple(
                ClassEntry(each["name"], each.get("definition", "")) for each in values["classes"]
            ),
            templates=PromptTemplates(
                templates=tuple(values["templates"]),
                negative_prompt=values.get("negative_prompt", ""),
                contexts=tuple(values.get("contexts", ())),
                styles=tuple(values.get("styles", ())),
                wildcards=tuple(
                    sorted(
                        (name, tuple(each)) for name, each in values.get("wildcards", {}).items()
                    )
                ),
                is_literal=is_literal,
                per_class=tuple(
                    (name, ClassBank.from_dict(each))
                    for name, each in sorted(values.get("per_class", {}).items())
                ),
            ),
            images_per_class=values["images_per_class"],
            seed=values["seed"],
            images_per_prompt=values.get("images_per_prompt", 1),
            strengths=tuple(map(float, values.get("strengths", ()))),
        )


def _has_special(values: Mapping[str, Any]) -> bool:
    """Whether a plan's texts would be read otherwise today than before there were alternatives."""
    texts = [values.get("negative_prompt", "")]
    texts += [text for name in ("templates", "contexts", "styles") for text in values.get(name, ())]
    try:
        return any(parse(text).is_special for text in texts)
    except PlanError:  # it is refused today
        return True


def fingerprint(value: Any) -> str:
    """The first 12 digits of a JSON value's digest."""
    return digest(value)[:12]


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value in hexadecimal digits, equal on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()

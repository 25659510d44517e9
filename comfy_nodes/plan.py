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

A row can be made again: attempt 0 is the row itself, and each further attempt has another seed and
is otherwise the same. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from .alternatives import Choice, Parts, Wildcard, all_parts, parse, shortened
from .classes import ClassEntry, classes_from_json, parse_classes, read_classes, refuse_duplicates
from .draws import draw, hash_integer
from .errors import PlanError
from .listing import listing, parse_lines
from .wildcards import Extent, Wildcards

__all__ = [
    "DEFAULT_TEMPLATE",
    "MAX_SEED",
    "MOST_ATTEMPTS",
    "MOST_PER_BATCH",
    "MOST_PER_CLASS",
    "PLACEHOLDERS",
    "ClassEntry",
    "GenerationPlan",
    "ImageSpec",
    "PromptTemplates",
    "classes_from_json",
    "fill",
    "fingerprint",
    "parse_classes",
    "parse_lines",
    "placeholders",
    "read_classes",
]

MAX_SEED = 2**53 - 1  # browsers hold numbers as doubles and mangle larger integers
MOST_ATTEMPTS = 9_999  # further ones, at one row
MOST_PER_CLASS = 1_000_000  # images
MOST_PER_BATCH = 4096  # images
DEFAULT_TEMPLATE = "a photo of a {class}"
PLACEHOLDERS = ("class", "definition", "context", "style")
# In plans that have alternatives or wildcards: how to read them. Another way gets another name.
SYNTAX = "alternatives and wildcards"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class ImageSpec:
    """One row of a plan: everything that decides one image, apart from the generator's settings.

    `seed` is in [0, 2**53). `template`, `context` and `style` are the entries that the prompt was
    made from, as they were written; the last two are None where the prompt does not use them.
    `attempt` counts how often the row was made before and rejected.
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


@dataclass(frozen=True)
class PromptTemplates:
    """Prompt templates, the banks that fill their placeholders, and the wildcards of both.

    Templates and banks may have alternatives and wildcards (comfy_nodes.alternatives). `wildcards`
    are (name, entries), only those that are used. With `is_literal` braces in banks and "__" are
    plain text, as in plans made before there were any.

    Raises:
        PlanError: no template, an unknown placeholder, a placeholder whose bank is empty, or
            alternatives or wildcards that are malformed or missing.
    """

    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    negative_prompt: str = ""
    contexts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    wildcards: tuple[tuple[str, tuple[str, ...]], ...] = ()
    is_literal: bool = False

    def __post_init__(self) -> None:
        if not self.templates:
            raise PlanError(
                f"no prompt template; give at least one, for example '{DEFAULT_TEMPLATE}'"
            )
        for template in self.templates:
            self._check(template)
        if self.is_literal:
            return
        for name, bank in (("context", self.contexts), ("style", self.styles)):
            for entry in bank:
                self._explained(f"{name} '{shortened(entry)}'", entry)
        if any(isinstance(each, (Choice, Wildcard)) for each in all_parts(self._negative())):
            raise PlanError(
                "the negative prompt is the same for every image; it cannot have alternatives or "
                "wildcards"
            )

    def _negative(self) -> Parts:
        try:
            return parse(self.negative_prompt).parts
        except PlanError as error:
            raise PlanError(f"negative prompt: {error}") from error

    def _explained(self, what: str, text: str) -> Extent:
        try:
            return self._lists.check(text)
        except PlanError as error:
            raise PlanError(f"{what}: {error}") from error

    def _check(self, template: str) -> None:
        shown = f"template '{shortened(template)}'"
        if self.is_literal:
            names = frozenset(placeholders(template))
            names_class = bool(names & {"class", "definition"})
        else:
            extent = self._explained(shown, template)
            names, names_class = extent.names, extent.names_class
        for name in sorted(names):
            if name not in PLACEHOLDERS:
                known = ", ".join("{" + each + "}" for each in PLACEHOLDERS)
                raise PlanError(f"unknown placeholder '{{{name}}}' in {shown}; known: {known}")
        for name, bank in (("context", self.contexts), ("style", self.styles)):
            if name in names and not bank:
                raise PlanError(
                    f"{shown} uses {{{name}}} but there are no {name}s; add some, one per line"
                )
        if not names_class:
            raise PlanError(
                f"{shown} does not name the class: every class would get the same prompt; "
                "add {class}"
            )

    @cached_property
    def _lists(self) -> Wildcards:
        return Wildcards(dict(self.wildcards))

    @cached_property
    def expands(self) -> bool:
        """Whether any text has alternatives or wildcards, so that rows draw from them."""
        texts = (*self.templates, *self.contexts, *self.styles)
        return not self.is_literal and any(parse(text).is_special for text in texts)

    @property
    def names(self) -> set[str]:
        """Every placeholder that a prompt may have."""
        if not self.expands:
            return {name for template in self.templates for name in placeholders(template)}
        return set().union(*(self._lists.check(template).names for template in self.templates))

    def pieces(self, template: str, seed: int) -> Sequence[str]:
        """A template of the row with this seed: text and names by turns, text first and last."""
        return self._lists.pieces(template, seed, "template") if self.expands else _pieces(template)

    def text(self, kind: str, entry: str, seed: int) -> str:
        """An entry of a bank, "context" or "style", as the row with this seed has it."""
        if not self.expands:
            return entry
        pieces = self._lists.pieces(entry, seed, kind)
        pieces[1::2] = ["{" + name + "}" for name in pieces[1::2]]  # no placeholders in a bank
        return "".join(pieces)


@dataclass(frozen=True)
class GenerationPlan:
    """A pure function from (classes, templates, images per class, seed) to ImageSpec rows.

    Raises:
        PlanError: no classes, a class given twice, a count below 1, a seed outside [0, 2**53), or a
            template that uses {definition} where a class has none.
    """

    classes: tuple[ClassEntry, ...]
    templates: PromptTemplates = field(default_factory=PromptTemplates)
    images_per_class: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.classes:
            raise PlanError("no classes; give at least one class name")
        refuse_duplicates([entry.name for entry in self.classes])
        if not 1 <= self.images_per_class <= MOST_PER_CLASS:
            raise PlanError(
                f"images per class is {self.images_per_class}; it must be 1 to {MOST_PER_CLASS}"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise PlanError(f"plan seed {self.seed} is outside 0..{MAX_SEED}")
        self._refuse_missing_definitions()

    def _refuse_missing_definitions(self) -> None:
        if "definition" not in self.templates.names:
            return
        missing = [entry.name for entry in self.classes if not entry.definition]
        if missing:
            raise PlanError(
                f"a template uses {{definition}} but these classes have none: {listing(missing)}; "
                "write them as 'name: definition'"
            )

    @cached_property
    def plan_id(self) -> str:
        """Twelve hexadecimal digits of all that a row depends on; not of `images_per_class`."""
        return fingerprint(self.to_dict() | {"images_per_class": None})

    def __len__(self) -> int:
        return len(self.classes) * self.images_per_class

    def __iter__(self) -> Iterator[ImageSpec]:
        return (self.row(index) for index in range(len(self)))

    def row(self, index: int, *, attempt: int = 0) -> ImageSpec:
        """Row `index`, 0 <= index < len(self), in a time that does not grow with the index.

        Another `attempt`, up to MOST_ATTEMPTS, changes the seed alone: alternatives and wildcards
        are drawn from the seed of attempt 0, so the prompt stays.

        Raises:
            PlanError: the index is outside the plan, or the attempt outside 0..MOST_ATTEMPTS.
        """
        if not 0 <= index < len(self):
            raise PlanError(f"row {index} is outside the plan, which has rows 0 to {len(self) - 1}")
        if not 0 <= attempt <= MOST_ATTEMPTS:
            raise PlanError(f"attempt {attempt} at row {index} is outside 0..{MOST_ATTEMPTS}")
        position, class_index = divmod(index, len(self.classes))
        entry = self.classes[class_index]
        texts = self.templates
        seed = hash_integer(self.seed, entry.name, "seed", position) >> 11
        template = draw(texts.templates, self.seed, entry.name, "template", position)
        pieces = texts.pieces(template, seed)
        context = style = None
        values = {"class": entry.name, "definition": entry.definition}
        if "context" in pieces[1::2]:
            context = draw(texts.contexts, self.seed, entry.name, "context", position)
            values["context"] = texts.text("context", context, seed)
        if "style" in pieces[1::2]:
            style = draw(texts.styles, self.seed, entry.name, "style", position)
            values["style"] = texts.text("style", style, seed)
        if attempt:
            seed = hash_integer(self.seed, entry.name, "attempt", attempt, position) >> 11
        return ImageSpec(
            index=index,
            label=entry.name,
            prompt=_filled(pieces, values),
            negative_prompt=texts.negative_prompt,
            seed=seed,
            template=template,
            context=context,
            style=style,
            attempt=attempt,
        )

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

    def counts(self) -> dict[str, int]:
        """Images per label, in class order."""
        return {entry.name: self.images_per_class for entry in self.classes}

    def to_dict(self) -> dict[str, Any]:
        """The plan's inputs as plain JSON values; `GenerationPlan.from_dict` reads them back.

        Without alternatives and wildcards they are those of the plans made before there were any.
        """
        texts = self.templates
        more = {"syntax": SYNTAX, "wildcards": dict(texts.wildcards)} if texts.expands else {}
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
            ),
            images_per_class=values["images_per_class"],
            seed=values["seed"],
        )


def placeholders(template: str) -> list[str]:
    """The names between braces, in order: "a {style} {class}" -> ["style", "class"]."""
    return list(_pieces(template)[1::2])


def fill(template: str, values: Mapping[str, str | None]) -> str:
    """The template with every placeholder replaced; braces in the values stay as they are."""
    return _filled(_pieces(template), values)


def _filled(pieces: Sequence[str], values: Mapping[str, str | None]) -> str:
    filled = list(pieces)
    filled[1::2] = [values[name] or "" for name in filled[1::2]]
    return "".join(filled)


def _has_special(values: Mapping[str, Any]) -> bool:
    """Whether a plan's texts would be read otherwise today than before there were alternatives."""
    texts = [values.get("negative_prompt", "")]
    texts += [text for name in ("templates", "contexts", "styles") for text in values.get(name, ())]
    try:
        return any(parse(text).is_special for text in texts)
    except PlanError:  # it is refused today
        return True


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str, ...]:
    """Text and names by turns, text first and last: "a {class}!" -> ("a ", "class", "!")."""
    return tuple(_PLACEHOLDER.split(template))


def fingerprint(value: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a JSON value, equal on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]

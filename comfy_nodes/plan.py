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

A bank may give a class its own contexts, styles and definition (comfy_nodes.prompt_bank). With
`images_per_prompt` K, K images in a row of a class share their prompt, so that a folder has groups
of images with one caption.

A row can be made again: attempt 0 is the row itself, and each further attempt has another seed and
is otherwise the same. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

from .alternatives import Choice, Parts, Wildcard, all_parts, parse, shortened
from .classes import ClassEntry, classes_from_json, parse_classes, read_classes, refuse_duplicates
from .draws import draw, hash_integer
from .errors import PlanError
from .listing import listing, parse_lines
from .prompt_bank import ClassBank
from .wildcards import Extent, Wildcards

__all__ = [
    "DEFAULT_TEMPLATE",
    "MAX_SEED",
    "MOST_ATTEMPTS",
    "MOST_PER_BATCH",
    "MOST_PER_CLASS",
    "MOST_PER_PROMPT",
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
MOST_PER_PROMPT = 1_000_000  # images
DEFAULT_TEMPLATE = "a photo of a {class}"
PLACEHOLDERS = ("class", "definition", "context", "style")
# In plans that have alternatives or wildcards: how to read them. Another way gets another name.
SYNTAX = "alternatives and wildcards"
_BANKS = {"context": "contexts", "style": "styles"}  # placeholder -> its bank
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
    plain text, as in plans made before there were any. `per_class` is (class, its own definition,
    contexts and styles): a class uses its own where it has some, and otherwise the common ones.

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
    per_class: tuple[tuple[str, ClassBank], ...] = ()

    def __post_init__(self) -> None:
        if not self.templates:
            raise PlanError(
                f"no prompt template; give at least one, for example '{DEFAULT_TEMPLATE}'"
            )
        for template in self.templates:
            self._check(template)
        if self.is_literal:
            return
        for name, bank in _BANKS.items():
            for entry in self._all(bank):
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
        for name, bank in _BANKS.items():
            if name in names and not any(self._all(bank)):
                raise PlanError(
                    f"{shown} uses {{{name}}} but there are no {name}s; add some, one per line"
                )
        if not names_class:
            raise PlanError(
                f"{shown} does not name the class: every class would get the same prompt; "
                "add {class}"
            )

    def _all(self, bank: str) -> Iterator[str]:
        """The entries of a bank, "contexts" or "styles": the common ones, then each class's own."""
        yield from getattr(self, bank)
        for _, own in self.per_class:
            yield from getattr(own, bank)

    @cached_property
    def _own(self) -> dict[str, ClassBank]:
        return dict(self.per_class)

    def bank(self, kind: str, label: str) -> tuple[str, ...]:
        """What a class's prompts draw "context" or "style" from; () if there is nothing."""
        own: tuple[str, ...] = getattr(self._own.get(label), _BANKS[kind], ())
        common: tuple[str, ...] = getattr(self, _BANKS[kind])
        return own or common

    def definition(self, entry: ClassEntry) -> str:
        """A class's own words if it has some, otherwise those of the bank, otherwise ""."""
        own = self._own.get(entry.name)
        return entry.definition or (own.definition if own else "")

    def for_classes(self, labels: Collection[str]) -> PromptTemplates:
        """The same without what belongs to other classes."""
        kept = tuple((name, own) for name, own in self.per_class if name in labels)
        return self if len(kept) == len(self.per_class) else replace(self, per_class=kept)

    @cached_property
    def _lists(self) -> Wildcards:
        return Wildcards(dict(self.wildcards))

    @cached_property
    def expands(self) -> bool:
        """Whether any text has alternatives or wildcards, so that rows draw from them."""
        texts = chain(self.templates, *map(self._all, _BANKS.values()))
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
            template that uses {definition}, {context} or {style} where a class has none.
    """

    classes: tuple[ClassEntry, ...]
    templates: PromptTemplates = field(default_factory=PromptTemplates)
    images_per_class: int = 30
    seed: int = 0
    images_per_prompt: int = 1

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
        if not 1 <= self.images_per_prompt <= MOST_PER_PROMPT:
            raise PlanError(
                f"images per prompt is {self.images_per_prompt}; it must be 1 to {MOST_PER_PROMPT}"
            )
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
        for name in _BANKS:
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
        group = position // self.images_per_prompt
        # Alternatives and wildcards of a prompt follow from the seed of its first image.
        first = self._seed(entry.name, group * self.images_per_prompt)
        template = draw(texts.templates, self.seed, entry.name, "template", group)
        pieces = texts.pieces(template, first)
        drawn: dict[str, str] = {}
        values = {"class": entry.name, "definition": texts.definition(entry)}
        for kind in _BANKS:
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
            prompt=_filled(pieces, values),
            negative_prompt=texts.negative_prompt,
            seed=seed,
            template=template,
            context=drawn.get("context"),
            style=drawn.get("style"),
            attempt=attempt,
        )

    def _seed(self, label: str, position: int) -> int:
        return hash_integer(self.seed, label, "seed", position) >> 11

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

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
their names. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from .draws import draw, hash_integer
from .errors import PlanError

MAX_SEED = 2**53 - 1  # browsers hold numbers as doubles and mangle larger integers
MOST_PER_CLASS = 1_000_000  # images
MOST_PER_BATCH = 4096  # images
DEFAULT_TEMPLATE = "a photo of a {class}"
PLACEHOLDERS = ("class", "definition", "context", "style")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class ClassEntry:
    """A class: its label, verbatim, and optionally a definition, "a large long-legged bird"."""

    name: str
    definition: str = ""


@dataclass(frozen=True)
class ImageSpec:
    """One row of a plan: everything that decides one image, apart from the generator's settings.

    `seed` is in [0, 2**53). `template`, `context` and `style` are the entries that the prompt was
    made from; the last two are None where the template does not use them.
    """

    index: int
    label: str
    prompt: str
    negative_prompt: str
    seed: int
    template: str
    context: str | None = None
    style: str | None = None


@dataclass(frozen=True)
class PromptTemplates:
    """Prompt templates and the banks that fill their placeholders.

    Raises:
        PlanError: no template, an unknown placeholder, or a placeholder whose bank is empty.
    """

    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    negative_prompt: str = ""
    contexts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.templates:
            raise PlanError(
                f"no prompt template; give at least one, for example '{DEFAULT_TEMPLATE}'"
            )
        for template in self.templates:
            self._check(template)

    def _check(self, template: str) -> None:
        names = placeholders(template)
        for name in names:
            if name not in PLACEHOLDERS:
                known = ", ".join("{" + each + "}" for each in PLACEHOLDERS)
                raise PlanError(
                    f"unknown placeholder '{{{name}}}' in template '{template}'; known: {known}"
                )
        for name, bank in (("context", self.contexts), ("style", self.styles)):
            if name in names and not bank:
                raise PlanError(
                    f"template '{template}' uses {{{name}}} but there are no {name}s; "
                    "add some, one per line"
                )
        if "class" not in names and "definition" not in names:
            raise PlanError(
                f"template '{template}' does not name the class: every class would get the same "
                "prompt; add {class}"
            )


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
        _refuse_duplicates([entry.name for entry in self.classes])
        if not 1 <= self.images_per_class <= MOST_PER_CLASS:
            raise PlanError(
                f"images per class is {self.images_per_class}; it must be 1 to {MOST_PER_CLASS}"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise PlanError(f"plan seed {self.seed} is outside 0..{MAX_SEED}")
        self._refuse_missing_definitions()

    def _refuse_missing_definitions(self) -> None:
        if not any("definition" in placeholders(template) for template in self.templates.templates):
            return
        missing = [entry.name for entry in self.classes if not entry.definition]
        if missing:
            raise PlanError(
                f"a template uses {{definition}} but these classes have none: {_listing(missing)}; "
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

    def row(self, index: int) -> ImageSpec:
        """Row `index`, 0 <= index < len(self), in a time that does not grow with the index.

        Raises:
            PlanError: the index is outside the plan.
        """
        if not 0 <= index < len(self):
            raise PlanError(f"row {index} is outside the plan, which has rows 0 to {len(self) - 1}")
        position, class_index = divmod(index, len(self.classes))
        entry = self.classes[class_index]
        texts = self.templates
        template = draw(texts.templates, self.seed, entry.name, "template", position)
        used = _pieces(template)[1::2]
        context = style = None
        if "context" in used:
            context = draw(texts.contexts, self.seed, entry.name, "context", position)
        if "style" in used:
            style = draw(texts.styles, self.seed, entry.name, "style", position)
        values = {
            "class": entry.name,
            "definition": entry.definition,
            "context": context,
            "style": style,
        }
        return ImageSpec(
            index=index,
            label=entry.name,
            prompt=fill(template, values),
            negative_prompt=texts.negative_prompt,
            seed=hash_integer(self.seed, entry.name, "seed", position) >> 11,
            template=template,
            context=context,
            style=style,
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
        """The plan's inputs as plain JSON values; `GenerationPlan.from_dict` reads them back."""
        return {
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
        return cls(
            classes=tuple(
                ClassEntry(each["name"], each.get("definition", "")) for each in values["classes"]
            ),
            templates=PromptTemplates(
                templates=tuple(values["templates"]),
                negative_prompt=values.get("negative_prompt", ""),
                contexts=tuple(values.get("contexts", ())),
                styles=tuple(values.get("styles", ())),
            ),
            images_per_class=values["images_per_class"],
            seed=values["seed"],
        )


def placeholders(template: str) -> list[str]:
    """The names between braces, in order: "a {style} {class}" -> ["style", "class"]."""
    return list(_pieces(template)[1::2])


def fill(template: str, values: Mapping[str, str | None]) -> str:
    """The template with every placeholder replaced; braces in the values stay as they are."""
    pieces = list(_pieces(template))
    pieces[1::2] = [values[name] or "" for name in pieces[1::2]]
    return "".join(pieces)


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str, ...]:
    """Text and names by turns, text first and last: "a {class}!" -> ("a ", "class", "!")."""
    return tuple(_PLACEHOLDER.split(template))


def fingerprint(value: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a JSON value, equal on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


def parse_lines(text: str) -> tuple[str, ...]:
    """The non-empty lines of a text field, trimmed; lines that begin with '#' are comments."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def parse_classes(text: str) -> tuple[ClassEntry, ...]:
    """Classes from text, one per line, optionally "name: definition"; or `classes_from_json`.

    Raises:
        PlanError: only blank lines, a class given twice, a line without a name, or malformed JSON.
    """
    stripped = text.lstrip("\ufeff").strip()
    if stripped[:1] in ("[", "{"):
        try:
            return classes_from_json(json.loads(stripped))
        except (RecursionError, ValueError) as error:
            raise PlanError(f"the class list starts like JSON but is not: {error}") from error
    entries = []
    for line in parse_lines(text):
        name, _, definition = line.partition(":")
        if not name.strip():
            raise PlanError(
                f"line '{line}' has no class name before the colon; "
                "write 'name' or 'name: definition'"
            )
        entries.append(ClassEntry(name.strip(), definition.strip()))
    return _checked(entries)


def classes_from_json(value: Any) -> tuple[ClassEntry, ...]:
    """Classes from parsed JSON.

    Either ["bat", ...], [{"name": "bat", "definition": "a flying mammal"}, ...] or
    {"bat": "a flying mammal", ...}.

    Raises:
        PlanError: anything else, no class, or a class given twice.
    """
    if isinstance(value, dict):
        value = [
            {"name": name, "definition": definition or ""} for name, definition in value.items()
        ]
    if not isinstance(value, list):
        raise PlanError(
            f"a JSON class list must be a list or an object, not {type(value).__name__}"
        )
    return _checked([_entry_from_json(item, number) for number, item in enumerate(value, 1)])


def _entry_from_json(item: Any, number: int) -> ClassEntry:
    if isinstance(item, str):
        item = {"name": item}
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise PlanError(
            f"entry {number} of the JSON class list must be a name or an object with a 'name', "
            f"not {item!r}"
        )
    definition = item.get("definition") or ""
    if not isinstance(definition, str):
        raise PlanError(
            f"entry {number} of the JSON class list: the definition must be text, "
            f"not {definition!r}"
        )
    return ClassEntry(name, definition)


def read_classes(path: Path) -> tuple[ClassEntry, ...]:
    """Classes from a text file, a JSON file (.json), or a folder whose sub-folders are the classes.

    Raises:
        PlanError: the path does not exist, cannot be read as UTF-8 text, or holds no class.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        names = sorted(
            each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")
        )
        if not names:
            raise PlanError(
                f"folder {path} has no class folders; expected one sub-folder per class"
            )
        return tuple(ClassEntry(name) for name in names)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PlanError(
            f"{path} does not exist; expected a text file, a JSON file or a folder of class folders"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"cannot read classes from {path}: {error}; expected UTF-8 text, one class per line"
        ) from error
    try:
        if path.suffix.lower() == ".json":
            return classes_from_json(json.loads(text))
        return parse_classes(text)
    except (RecursionError, ValueError) as error:  # too deep, malformed, or a number without end
        raise PlanError(f"{path} is not valid JSON: {error}") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def _checked(entries: Sequence[ClassEntry]) -> tuple[ClassEntry, ...]:
    if not entries:
        raise PlanError("no classes; give at least one class name, one per line")
    _refuse_duplicates([entry.name for entry in entries])
    return tuple(entries)


def _refuse_duplicates(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise PlanError(f"named more than once: {_listing(twice)}; each class must appear once")


def _listing(names: Sequence[str], most: int = 10) -> str:
    """ "'a', 'b' and 7 more": the first names, and how many follow."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"

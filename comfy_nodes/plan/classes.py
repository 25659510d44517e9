"""The classes of a plan: from text, JSON, a file or a folder of class folders.

Standard library only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PlanError
from ..listing import listing, parse_lines


@dataclass(frozen=True)
class ClassEntry:
    """A class: its label, verbatim, and optionally a definition, "a large long-legged bird"."""

    name: str
    definition: str = ""


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
    refuse_duplicates([entry.name for entry in entries])
    return tuple(entries)


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raises PlanError if a name is there more than once."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise PlanError(f"named more than once: {listing(twice)}; each class must appear once")

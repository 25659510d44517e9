"""A prompt bank: what classes mean, and the contexts and styles that vary their prompts.

One JSON file that people read and edit, and all that generation reads of it:

    {"shared": {"contexts": ["in the rain", ...], "styles": ["an etching", ...]},
     "classes": {"crane": {"definition": "a large long-legged bird",
                           "meanings": [{"text": "a machine that lifts", "source": "WordNet"}, ...],
                           "contexts": ["wading through a marsh", ...],
                           "styles": [...]}},
     "provenance": {...}}

Everything is optional. A class uses its own contexts and styles, or the shared ones where it has
none. `bank.schema.json` beside this file describes the format to editors. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlanError
from ..textfile import read_text

_BREAK = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Meaning:
    """One of the things that a class name may mean, and who says so."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class ClassBank:
    """What is known of one class. Texts are single lines; `definition` is "" if there is none."""

    definition: str = ""
    contexts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    meanings: tuple[Meaning, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of what is there."""
        values = {
            "meanings": [
                {"text": each.text, "source": each.source} if each.source else {"text": each.text}
                for each in self.meanings
            ],
            "definition": self.definition,
            "contexts": list(self.contexts),
            "styles": list(self.styles),
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassBank:
        """What prompts are made from, as `to_dict` wrote it into a plan."""
        return cls(
            values.get("definition", ""),
            tuple(values.get("contexts", ())),
            tuple(values.get("styles", ())),
        )

    def for_prompts(self) -> ClassBank:
        """What prompts are made from: all but the meanings."""
        return ClassBank(self.definition, self.contexts, self.styles)


@dataclass(frozen=True)
class PromptBank:
    """Contexts and styles for all classes, and for each class what is its own."""

    contexts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    classes: Mapping[str, ClassBank] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The bank as plain JSON values, as `bank_from_json` reads them back."""
        return {
            "shared": {"contexts": list(self.contexts), "styles": list(self.styles)},
            "classes": {name: each.to_dict() for name, each in self.classes.items()},
            "provenance": dict(self.provenance),
        }

    def per_class(self) -> tuple[tuple[str, ClassBank], ...]:
        """(class, what its prompts are made from), sorted, without classes that have nothing."""
        found = ((name, each.for_prompts()) for name, each in sorted(self.classes.items()))
        return tuple((name, each) for name, each in found if each != ClassBank())

    def only(self, names: Collection[str]) -> PromptBank:
        """What prompts of these classes are made from."""
        kept = {name: each for name, each in self.per_class() if name in names}
        return PromptBank(self.contexts, self.styles, kept)


def read_prompt_bank(path: Path) -> PromptBank:
    """The bank of a file.

    Raises:
        PlanError: the file is missing, is not UTF-8 text, or is not a bank; the message names the
            line or the key.
    """
    return bank_from_json(read_text(path, "bank", "give a bank as a JSON file"), f"bank {path}")


def bank_from_json(text: str, shown: str = "the bank") -> PromptBank:
    """The bank of a JSON text; `shown` names it in messages.

    Raises:
        PlanError: the text is not a bank; the message names the line or the key.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise PlanError(f"{shown} line {error.lineno} is not valid JSON: {error.msg}") from error
    except _Duplicate as error:
        raise PlanError(f"{shown} has the key {_key(error.args[0])} twice; keep one") from error
    except RecursionError as error:
        raise PlanError(f"{shown} is nested too deeply to be a bank") from error
    try:
        return _bank(value)
    except _Wrong as error:
        raise PlanError(f"{shown}: {error}") from error


def bank_text(bank: PromptBank) -> str:
    """The bank as the text of a JSON file: the same bank gives the same bytes."""
    return json.dumps(bank.to_dict(), indent=2, ensure_ascii=False) + "\n"


class _Duplicate(ValueError):
    pass


class _Wrong(ValueError):
    pass


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Duplicate(name)
        found[name] = value
    return found


def _bank(value: Any) -> PromptBank:
    top = _object(value, "", ("shared", "classes", "provenance"))
    shared = _object(top.get("shared", {}), "shared", ("contexts", "styles"))
    return PromptBank(
        _texts(shared, "contexts", "shared"),
        _texts(shared, "styles", "shared"),
        {
            _line(name, f"the name of class {_key(name)}"): _class(each, f"classes.{_key(name)}")
            for name, each in _object(top.get("classes", {}), "classes").items()
        },
        _object(top.get("provenance", {}), "provenance"),
    )


def _class(value: Any, where: str) -> ClassBank:
    values = _object(value, where, ("meanings", "definition", "contexts", "styles"))
    definition = values.get("definition", "")
    return ClassBank(
        _line(definition, f"{where}.definition") if definition != "" else "",
        _texts(values, "contexts", where),
        _texts(values, "styles", where),
        tuple(
            _meaning(each, f"{where}.meanings[{number}]")
            for number, each in enumerate(_list(values, "meanings", where))
        ),
    )


def _meaning(value: Any, where: str) -> Meaning:
    if isinstance(value, str):
        return Meaning(_line(value, where))
    values = _object(value, where, ("text", "source"))
    source = values.get("source", "")
    return Meaning(
        _line(values.get("text"), f"{where}.text"),
        _line(source, f"{where}.source") if source != "" else "",
    )


def _object(value: Any, where: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        expected = "{...}" if known is None else "{" + ", ".join(f'"{n}": ...' for n in known) + "}"
        raise _Wrong(f"{where or 'the top'} must be an object, {expected}")
    for name in value:
        if known is not None and name not in known:
            raise _Wrong(
                f"{where or 'the top'} has the unknown key {_key(name)}; known: {', '.join(known)}"
            )
    return value


def _list(values: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = values.get(name, [])
    if not isinstance(value, list):
        raise _Wrong(f'{where}.{name} must be a list, ["...", ...]')
    return value


def _texts(values: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    return tuple(
        _line(each, f"{where}.{name}[{number}]")
        for number, each in enumerate(_list(values, name, where))
    )


def is_line(text: str) -> bool:
    """Whether a bank can hold a text: one line, not blank, without control characters."""
    return bool(text.strip()) and not _BREAK.search(text.strip())


def _line(value: Any, where: str) -> str:
    if not isinstance(value, str) or not is_line(value):
        raise _Wrong(f"{where} must be one line of text, not blank")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Wrong(f"{where} is not valid Unicode text") from None
    return value.strip()


def _key(name: str) -> str:
    """A key as messages show it: in quotes where it is not a plain word, and never long."""
    short = name if len(name) <= 40 else name[:39] + "…"
    return short if re.fullmatch(r"[\w-]+", short) else json.dumps(short)

"""Alternatives, wildcards and placeholders in a text: {red|blue}, __color__, {class}.

    {red|dark {blue|green}}    one of these; alternatives may hold alternatives
    {3::red|blue}              red three times as often as blue
    __color__                  one entry of the wildcard 'color' (comfy_nodes.plan.wildcards)
    {{class}}                  the text {class}, as with str.format

Braces without "|" between them are a placeholder of a template, and anything else is text. Standard
library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from ..errors import PlanError

DEEPEST = 20  # braces or wildcards inside each other
_TOKENS = re.compile(r"\{+|\}+|\||(?<!\w)__([\w*][\w\-./*]*?)__(?!\w)")
_WEIGHT = re.compile(r"\s*(\d{1,4}(?:\.\d{1,3})?)::")
_SEVERAL = re.compile(r"\s*[\d~@-]*\$\$")
_LOADS_A_FILE = re.compile(r"<(lora|lyco|hypernet)\s*:[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A placeholder, without its braces."""

    name: str


@dataclass(frozen=True)
class Wildcard:
    """__name__, for which an entry of a list is drawn."""

    name: str


@dataclass(frozen=True)
class Choice:
    """Alternatives, and their weights added up from the first on, in thousandths."""

    options: tuple[Parts, ...]
    totals: tuple[int, ...]


Part = str | Name | Wildcard | Choice
Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Parsed:
    """The parts of a text; `is_special` if they are not what str and placeholders alone give."""

    parts: Parts
    is_special: bool


@dataclass
class _Frame:
    """What stands after an opening brace, so far: alternatives, each a list of parts."""

    opening: str
    options: list[list[Part]] = field(default_factory=lambda: [[]])

    def add(self, *parts: Part) -> None:
        self.options[-1] += parts

    def flat(self) -> list[Part]:
        """The parts, with "|" as text."""
        found = list(self.options[0])
        for option in self.options[1:]:
            found += ["|", *option]
        return found


@lru_cache(maxsize=4096)
def parse(text: str) -> Parsed:
    """The parts of a text.

    "{{" is text only where "}}" closes it: in "{{a|b} c|d}" both braces open alternatives.

    Raises:
        PlanError: a brace before alternatives is never closed, a weight or a pattern that is not
            supported, too deep, or a tag that loads a file.
    """
    if tag := _LOADS_A_FILE.search(text):
        raise PlanError(
            f"'{tag[0]}' in a prompt loads nothing in ComfyUI; remove it, and put the node Load "
            "LoRA between the checkpoint and SynthGrid Encode Class Prompts"
        )
    stack, special, last = [_Frame("")], False, 0
    for token in _TOKENS.finditer(text):
        stack[-1].add(text[last : token.start()])
        last = token.end()
        found = token[0]
        if found[0] == "{":
            stack += [_Frame("{{") for _ in range(len(found) // 2)]
            stack += [_Frame("{")] if len(found) % 2 else []
            if len(stack) > DEEPEST + 1:
                raise PlanError(
                    f"'{shortened(text)}' has more than {DEEPEST} braces in one another"
                )
        elif found[0] == "}":
            special |= _close(stack, len(found), text)
        elif found == "|":
            if len(stack) > 1:
                stack[-1].options.append([])
            else:
                stack[-1].add("|")
        else:
            special = True
            stack[-1].add(_wildcard(token[1]))
    stack[-1].add(text[last:])
    return Parsed(_merged(_unclosed(stack, text)), special)


def _wildcard(name: str) -> Wildcard:
    if "*" in name or ".." in name or name.startswith("/"):
        raise PlanError(f"__{name}__ is not the name of one list; write a name such as __color__")
    return Wildcard(name)


def _close(stack: list[_Frame], braces: int, text: str) -> bool:
    """Closes as many braces; whether any of them made alternatives, or "{{" and "}}" text."""
    special = False
    while braces:
        frame = stack[-1]
        if not frame.opening:
            frame.add("}" * braces)
            return special
        if frame.opening == "{{" and braces > 1:
            stack.pop()
            stack[-1].add("{", *frame.flat(), "}")
            braces, special = braces - 2, True
            continue
        if frame.opening == "{{":  # its other brace opens what this one is in
            stack[-1] = _Frame("{")
        else:
            stack.pop()
        special |= len(frame.options) > 1
        stack[-1].add(*_group(frame, text))
        braces -= 1
    return special


def _group(frame: _Frame, text: str) -> list[Part]:
    """What a pair of braces is: alternatives, a placeholder, or text with braces around it."""
    if len(frame.options) > 1:
        return [choice_of(frame.options, text)]
    parts = _merged(frame.options[0])
    if not parts:
        return [Name("")]
    if len(parts) == 1 and isinstance(parts[0], str):
        return [Name(parts[0])]
    return ["{", *parts, "}"]


def choice_of(options: Sequence[Sequence[Part]], text: str) -> Choice:
    """Alternatives as parts, with their weights; `text` is for messages."""
    made = [_weighed(_merged(option), text) for option in options]
    totals = tuple(accumulate(weight for weight, _ in made))
    if not totals[-1]:
        raise PlanError(f"'{shortened(text)}' has alternatives that all have the weight 0")
    return Choice(tuple(parts for _, parts in made), totals)


def _weighed(parts: Parts, text: str) -> tuple[int, Parts]:
    """(weight in thousandths, the parts without it)."""
    first = parts[0] if parts and isinstance(parts[0], str) else ""
    if _SEVERAL.match(first):
        raise PlanError(
            f"'{shortened(text)}' asks for several alternatives at once with '$$'; "
            "write one pair of braces for each"
        )
    if match := _WEIGHT.match(first):
        return round(float(match[1]) * 1000), _merged([first[match.end() :], *parts[1:]])
    return 1000, parts


def _unclosed(stack: list[_Frame], text: str) -> list[Part]:
    """All parts, with braces that nothing closes as text."""
    found: list[Part] = []
    for frame in stack:
        if len(frame.options) > 1:
            raise PlanError(f"'{shortened(text)}' has alternatives without a closing brace")
        found += [frame.opening, *frame.flat()]
    return found


def _merged(parts: Iterable[Part]) -> Parts:
    """The parts with neighbouring texts as one, and without empty ones."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    return tuple(merged)


def shortened(text: str) -> str:
    """At most 60 letters of a text, for messages."""
    return text if len(text) <= 60 else text[:57] + "..."


def all_parts(parts: Parts) -> Iterator[Part]:
    """The parts, and those inside alternatives."""
    for part in parts:
        yield part
        if isinstance(part, Choice):
            for option in part.options:
                yield from all_parts(option)

"""Wildcards: lists by name, from which a row of a plan draws entries for __name__.

    wildcards = Wildcards({"color": ("red", "3::blue", "dark {green|grey}")})
    wildcards.pieces("a __color__ {class}", seed=7, kind="template")   # ["a blue ", "class", ""]

What one row gets follows from the row's own seed, so that a row needs no other one. Entries are
typed in, or one per line of a text file. Standard library only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..banks import read_bank
from ..errors import PlanError
from ..listing import listing, parse_lines
from .alternatives import (
    DEEPEST,
    Choice,
    Name,
    Part,
    Parts,
    Wildcard,
    all_parts,
    choice_of,
    parse,
    shortened,
)
from .draws import hash_integer

MOST_CHOICES = 500  # drawn for one text of one row
LONGEST = 20_000  # letters of one text of one row, without what placeholders stand for
MOST_LETTERS = 8 * 2**20  # in all wildcards of a plan together
_HEADING = re.compile(r"__([\w\-./]+?)__:")


@dataclass(frozen=True)
class Extent:
    """The most that a text can become, and whether every way names the class."""

    letters: int = 0
    choices: int = 0
    depth: int = 0
    names_class: bool = False
    names: frozenset[str] = frozenset()

    def then(self, other: Extent) -> Extent:
        """Both, one after the other."""
        return Extent(
            self.letters + other.letters,
            self.choices + other.choices,
            max(self.depth, other.depth),
            self.names_class or other.names_class,
            self.names | other.names,
        )


@dataclass(frozen=True)
class Wildcards:
    """Lists by name, from which entries of a row are drawn.

    Raises:
        PlanError: an entry that is malformed or has a placeholder, a list that is missing or leads
            back to itself, or more lists, letters, choices or depth than the bounds above.
    """

    lists: Mapping[str, Sequence[str]]

    @cached_property
    def _choices(self) -> dict[str, Choice]:
        return {name: self._choice(name, entries) for name, entries in self.lists.items()}

    def _choice(self, name: str, entries: Sequence[str]) -> Choice:
        if not entries:
            raise PlanError(
                f"the wildcard __{name}__ has no entries; write a line '__{name}__:' and below it "
                "the entries, one per line"
            )
        options = []
        for number, entry in enumerate(entries, 1):
            try:
                options.append(list(parse(entry).parts))
            except PlanError as error:
                raise PlanError(f"wildcard __{name}__ entry {number}: {error}") from error
        choice = choice_of(options, f"__{name}__")
        for number, parts in enumerate(choice.options, 1):
            if any(isinstance(part, Name) for part in all_parts(parts)):
                raise PlanError(
                    f"wildcard __{name}__ entry {number} has a placeholder, which only templates "
                    "have; for braces as text, double them"
                )
        return choice

    def check(self, text: str) -> Extent:
        """What a text can become. Raises PlanError as the class says."""
        extent = self._sequence(parse(text).parts, ())
        for found, most, what in (
            (extent.letters, LONGEST, "letters"),
            (extent.choices, MOST_CHOICES, "choices"),
            (extent.depth, DEEPEST, "alternatives in one another"),
        ):
            if found > most:
                raise PlanError(f"'{shortened(text)}' can have more than {most} {what}; shorten it")
        return extent

    def _sequence(self, parts: Parts, inside: tuple[str, ...]) -> Extent:
        extent = Extent()
        for part in parts:
            extent = extent.then(self._extent(part, inside))
        return extent

    def _extent(self, part: Part, inside: tuple[str, ...]) -> Extent:
        if isinstance(part, str):
            return Extent(letters=len(part))
        if isinstance(part, Name):
            names_class = part.name in ("class", "definition")
            return Extent(names_class=names_class, names=frozenset([part.name]))
        if isinstance(part, Wildcard):
            return self._of_list(part.name, inside)
        return self._widest(part, inside)

    def _of_list(self, name: str, inside: tuple[str, ...]) -> Extent:
        if name in inside:
            chain = " -> ".join(f"__{each}__" for each in (*inside, name))
            raise PlanError(f"wildcards lead back to themselves: {chain}; break the circle")
        if name not in self.lists:
            known = f"; known: {listing(sorted(self.lists))}" if self.lists else ""
            raise PlanError(f"there is no wildcard __{name}__{known}")
        if name not in self._extents:
            if len(inside) >= DEEPEST:
                raise PlanError(f"more than {DEEPEST} wildcards are in one another")
            self._extents[name] = self._widest(self._choices[name], (*inside, name))
        return self._extents[name]

    @cached_property
    def _extents(self) -> dict[str, Extent]:
        return {}

    def _widest(self, choice: Choice, inside: tuple[str, ...]) -> Extent:
        found = [self._sequence(parts, inside) for parts in choice.options]
        return Extent(
            max(each.letters for each in found),
            max(each.choices for each in found) + 1,
            max(each.depth for each in found) + 1,
            all(each.names_class for each in found),
            frozenset().union(*(each.names for each in found)),
        )

    def pieces(self, text: str, seed: int, kind: str) -> list[str]:
        """The text of one row: text and names of placeholders by turns, text first and last.

        Every choice is a draw of its own from the row's seed, what the text is for ("template",
        "context" or "style") and the number of the choice in reading order.
        """
        number = 0

        def choose(choice: Choice) -> Parts:
            nonlocal number
            drawn = hash_integer(seed, "alternative", kind, number) * choice.totals[-1] >> 64
            number += 1
            return choice.options[bisect_right(choice.totals, drawn)]

        found = [""]
        for part in self._drawn(parse(text).parts, choose):
            if isinstance(part, Name):
                found += [part.name, ""]
            else:
                found[-1] += part
        return found

    def _drawn(self, parts: Parts, choose: Callable[[Choice], Parts]) -> Iterator[str | Name]:
        for part in parts:
            if isinstance(part, (str, Name)):
                yield part
            else:
                choice = part if isinstance(part, Choice) else self._choices[part.name]
                yield from self._drawn(choose(choice), choose)


def used_wildcards(
    texts: Iterable[str], find: Callable[[str], Sequence[str]]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(name, entries) of every wildcard that texts use, directly or through others, by name.

    `find` returns the entries of a name.

    Raises:
        PlanError: what `find` and `parse` raise, or more than MOST_LETTERS letters.
    """
    found: dict[str, tuple[str, ...]] = {}
    waiting, letters = list(texts), 0
    while waiting:
        for part in all_parts(parse(waiting.pop()).parts):
            if isinstance(part, Wildcard) and part.name not in found:
                entries = tuple(find(part.name))
                letters += sum(map(len, entries))
                if letters > MOST_LETTERS:
                    raise PlanError(f"the wildcards have more than {MOST_LETTERS} letters in all")
                found[part.name] = entries
                waiting += entries
    return tuple(sorted(found.items()))


def parse_wildcards(text: str) -> dict[str, tuple[str, ...]]:
    """Wildcards typed in: a line "__color__:", and below it the entries, one per line.

    Raises:
        PlanError: an entry before the first such line, or a name twice.
    """
    found: dict[str, list[str]] = {}
    name = None
    for line in parse_lines(text):
        if heading := _HEADING.fullmatch(line):
            name = heading[1]
            if name in found:
                raise PlanError(f"the wildcard __{name}__ is there twice; put its entries together")
            found[name] = []
        elif name is None:
            raise PlanError(
                f"wildcards: '{shortened(line)}' belongs to no wildcard; "
                "write a line such as '__color__:' above it"
            )
        else:
            found[name].append(line)
    return {name: tuple(entries) for name, entries in found.items()}


def wildcards_text(wildcards: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The text that `parse_wildcards` reads back."""
    return "\n".join(line for name, entries in wildcards for line in (f"__{name}__:", *entries))


def read_wildcard(path: Path, name: str) -> tuple[str, ...]:
    """The entries of a wildcard's text file.

    Raises:
        PlanError: the file is missing, not UTF-8 text, or empty.
    """
    if not path.is_file():
        raise PlanError(
            f"there is no wildcard __{name}__: {path} does not exist; make this file, with one "
            "entry per line, or type the entries in"
        )
    return tuple(entry.text for entry in read_bank(path, "wildcards"))

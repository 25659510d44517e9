"""The noun senses of a name, and how near two senses are, from the database files of WordNet
(manual page wndb(5WN)).

index.noun   a line per lemma: lemma, pos, synset_cnt, p_cnt, p_cnt symbols, sense_cnt,
             tagsense_cnt, and the byte offset of every sense in data.noun, the commonest first
data.noun    at that offset: offset, lex_filenum, ss_type, w_cnt (hexadecimal), w_cnt pairs of word
             and lex_id, p_cnt, p_cnt pointers (symbol, offset, pos, source/target), "|", and the
             gloss: a definition, then quoted examples

The files are not part of SynthGrid; Debian has them in wordnet-base. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import PlanError

MOST_SENSES = 12
_HYPERNYMS = ("@", "@i")  # "is a", and "is an instance of"
_SMALL_WORDS = frozenset(("a", "an", "and", "of", "the"))


@dataclass(frozen=True)
class Synset:
    """A sense: its byte offset in data.noun, its words and definition as text ("wader, large
    wading bird: ..."), and the offsets of what it is a kind of."""

    offset: int
    text: str
    parents: tuple[int, ...]


class WordNet:
    """The nouns of one folder of database files.

    Every method raises PlanError if the folder lacks index.noun or data.noun, or they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._synsets: dict[int, Synset] = {}
        self._above: dict[int, Mapping[int, int]] = {}
        self._depths: dict[int, int] = {}

    def senses(self, name: str) -> list[Synset]:
        """The senses of a name, the commonest first, at most 12.

        A name that WordNet does not have is looked up without hyphens, spaces and small words:
        "lily-valley" is lily of the valley. Empty if that does not help either.
        """
        with self._readable():
            lemma = "_".join(name.strip().lower().split())
            found = self._lemmas.get(lemma) or self._collapsed.get(_collapse(lemma), ())
            return [self.synset(offset) for offset in found[:MOST_SENSES]]

    def synset(self, offset: int) -> Synset:
        """The sense at a byte offset of data.noun."""
        if offset not in self._synsets:
            with self._readable():
                self._synsets[offset] = self._read(offset)
        return self._synsets[offset]

    def similarity(self, one: int, other: int) -> float:
        """How near two senses are, 0 to 1: Wu and Palmer (1994), 2 d / (2 d + l1 + l2), for depth d
        of a common ancestor and the lengths of the paths to it; 0 without one.

        Of several common ancestors, it is the one that gives the most: our choice.
        """
        with self._readable():
            first, second = self._ancestors(one), self._ancestors(other)
            if len(second) < len(first):
                first, second = second, first
            return max(
                (
                    2 * depth / (2 * depth + length + second[each])
                    for each, length in first.items()
                    if each in second
                    for depth in [self._depth(each)]
                ),
                default=0.0,
            )

    def _ancestors(self, offset: int) -> Mapping[int, int]:
        """The lengths of the shortest paths up, to the sense itself first."""
        if offset not in self._above:
            found, level = {offset: 0}, [offset]
            while level:
                above = [parent for each in level for parent in self.synset(each).parents]
                level = [each for each in dict.fromkeys(above) if each not in found]
                found |= dict.fromkeys(level, max(found.values()) + 1)
            self._above[offset] = found
        return self._above[offset]

    def _depth(self, offset: int) -> int:
        """Senses on the longest path up, itself included."""
        if offset not in self._depths:
            parents = self.synset(offset).parents
            self._depths[offset] = 1 + max(map(self._depth, parents), default=0)
        return self._depths[offset]

    @cached_property
    def _lemmas(self) -> dict[str, tuple[int, ...]]:
        text = (self.folder / "index.noun").read_text(encoding="utf-8")
        lines = (line.split() for line in text.splitlines() if not line.startswith(" "))
        return {fields[0]: _offsets(fields) for fields in lines if fields}  # " ": the licence

    @cached_property
    def _collapsed(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for lemma, offsets in self._lemmas.items():
            found.setdefault(_collapse(lemma), offsets)
        return found

    @cached_property
    def _data(self) -> bytes:
        return (self.folder / "data.noun").read_bytes()

    def _read(self, offset: int) -> Synset:
        end = self._data.find(b"\n", offset)
        line = self._data[offset : end if end >= 0 else None].decode("utf-8")
        fields, _, gloss = line.partition(" | ")
        parts = fields.split()
        if int(parts[0]) != offset:
            raise ValueError("an offset leads to another synset")
        after = 4 + 2 * int(parts[3], 16)
        words = [each.replace("_", " ") for each in parts[4:after:2]]
        definition = gloss.split('; "')[0].strip()
        pointers = parts[after + 1 : after + 1 + 4 * int(parts[after])]
        above = zip(pointers[::4], pointers[1::4], strict=True)
        parents = tuple(int(parent) for symbol, parent in above if symbol in _HYPERNYMS)
        return Synset(offset, f"{', '.join(words)}: {definition}", parents)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, IndexError, RecursionError) as error:
            said = getattr(error, "strerror", None) or "its files are damaged"
            raise PlanError(
                f"cannot read WordNet in {self.folder}: {said}; give the folder that holds "
                "index.noun and data.noun"
            ) from error


def _offsets(fields: list[str]) -> tuple[int, ...]:
    senses = int(fields[2])
    return tuple(int(each) for each in fields[-senses:]) if senses else ()


def _collapse(lemma: str) -> str:
    parts = re.split(r"[\W_]+", lemma)
    return "".join(each for each in parts if each not in _SMALL_WORDS)

"""The noun senses of a name, from the database files of WordNet (manual page wndb(5WN)).

index.noun   a line per lemma: lemma, pos, synset_cnt, p_cnt, p_cnt symbols, sense_cnt,
             tagsense_cnt, and the byte offset of every sense in data.noun, the commonest first
data.noun    at that offset: offset, lex_filenum, ss_type, w_cnt (hexadecimal), w_cnt pairs of word
             and lex_id, pointers, "|", and the gloss: a definition, then quoted examples

The files are not part of SynthGrid; Debian has them in wordnet-base.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ..errors import ClientError

MOST_SENSES = 12


def meanings_of(name: str, folder: Path) -> list[str]:
    """The senses of a name, the commonest first: "wader, large wading bird: ..." without examples.

    Empty if WordNet does not know the name as a noun.

    Raises:
        ClientError: the folder lacks index.noun or data.noun, or they are damaged.
    """
    lemma = "_".join(name.strip().lower().split())
    try:
        return [_meaning(folder, offset) for offset in _offsets(lemma, folder)[:MOST_SENSES]]
    except (OSError, ValueError, IndexError) as error:
        said = getattr(error, "strerror", None) or "its files are damaged"
        raise ClientError(
            f"cannot read WordNet in {folder}: {said}; give the folder that holds index.noun and "
            "data.noun"
        ) from error


@lru_cache(maxsize=2)
def _index(folder: Path) -> Sequence[bytes]:
    lines = (folder / "index.noun").read_bytes().splitlines()
    return sorted(line for line in lines if not line.startswith(b" "))  # the licence is indented


def _offsets(lemma: str, folder: Path) -> list[int]:
    lines, start = _index(folder), f"{lemma} ".encode()
    place = bisect.bisect_left(lines, start)
    if place == len(lines) or not lines[place].startswith(start):
        return []
    fields = lines[place].split()
    senses = int(fields[2])
    return [int(each) for each in fields[-senses:]] if senses else []


def _meaning(folder: Path, offset: int) -> str:
    with (folder / "data.noun").open("rb") as file:
        file.seek(offset)
        line = file.readline().decode("utf-8")
    fields, _, gloss = line.partition(" | ")
    parts = fields.split()
    if int(parts[0]) != offset:
        raise ValueError("an offset leads to another synset")
    words = [each.replace("_", " ") for each in parts[4 : 4 + 2 * int(parts[3], 16) : 2]]
    definition = gloss.split('; "')[0].strip()
    return f"{', '.join(words)}: {definition}"

"""The only source of chance in a plan: draws that are equal on every Python and every machine.

Every draw is a SHA-256 of what it is for (plan seed, class, kind and position), so that it depends
on nothing else and can be made again alone. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


def hash_integer(*parts: str | int) -> int:
    """A 64-bit integer that follows from the parts; the last part is a number.

    It is the first eight bytes of the SHA-256 of the parts as a JSON list, as json.dumps writes it.
    """
    text = f"{_json_head(*parts[:-1])}{parts[-1]}]"
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")


def draw(bank: Sequence[T], seed: int, label: str, kind: str, position: int) -> T:
    """The entry of `bank` for a class's image number `position`, counted from 0.

    The bank is used up before any entry comes again, each time in a new shuffled order. So over any
    len(bank) consecutive images all entries are used about equally often, and the entry for one
    position is known without the others.
    """
    if len(bank) == 1:
        return bank[0]
    round_number, place = divmod(position, len(bank))
    return bank[_shuffled(len(bank), seed, label, kind, round_number)[place]]


@lru_cache(maxsize=4096)
def _json_head(*parts: str | int) -> str:
    """The start of a JSON list, up to where another part goes: (7, "bat") -> '[7, "bat", '."""
    return json.dumps(parts, ensure_ascii=True)[:-1] + ", "


# Enough for the templates, contexts and styles of a thousand classes: rows cycle through them.
@lru_cache(maxsize=4096)
def _shuffled(size: int, seed: int, label: str, kind: str, round_number: int) -> array[int]:
    """The numbers 0..size-1 in the order of one round, four bytes each."""
    head = _json_head(seed, label, kind, round_number)
    order = sorted(
        range(size),
        key=lambda entry: hashlib.sha256(f"{head}{entry}]".encode("ascii")).digest()[:8],
    )
    return array("I", order)

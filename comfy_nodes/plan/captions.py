"""Captions: prompts that are complete as they are, each with a label, read from a file or a text.

captions.txt     one caption per line; blank lines are left out
captions.csv     a header with a column "caption" and optionally "label"; .tsv is the same with tabs
captions.jsonl   one object per line: {"caption": "...", "label": "..."}, the label optional

A caption is kept letter for letter, but for spaces around it: braces, "__x__" and a "#" at its
start have no meaning. The same caption twice is two captions of one text.

A million captions must fit: they are held as UTF-8 in one piece, about as large as the file.

A message names the file and the line, and never quotes what is there: whoever opens somebody
else's workflow did not choose the file. Standard library only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import PlanError

DEFAULT_LABEL = "captions"  # where a caption has none
MOST_CAPTIONS = 50_000_000
LONGEST_CAPTION = 20_000  # characters
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_HALF = re.compile("[\ud800-\udfff]")  # also what stands for a byte that is not UTF-8
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_EXPECTED = '{"caption": "...", "label": "..."}, the label optional'
# (number of the line, caption, label or "")
_Found = Iterable[tuple[int, str, str]]


class Captions:
    """Captions by number, from 0, with their labels; or a part of them, for one batch.

    `total` counts the whole list and `digest` identifies it, the same for a part and for all.
    A part has the `held` captions from number `first` on, and after the last the first again.
    `labels` are those of the captions that it holds.
    """

    __slots__ = ("_ends", "_label_numbers", "_text", "digest", "first", "labels", "total")

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        total: int | None = None,
        first: int = 0,
        digest: str = "",
    ) -> None:
        """`pairs` are (caption, label), of whole characters."""
        self._text, self._ends, self._label_numbers = bytearray(), array("Q"), array("I")
        numbers: dict[str, int] = {}
        for caption, label in pairs:
            self._text += caption.encode("utf-8")
            self._ends.append(len(self._text))
            self._label_numbers.append(numbers.setdefault(label, len(numbers)))
        self.labels = tuple(numbers)
        self.total = len(self._ends) if total is None else total
        self.first = first
        self.digest = digest or self._digest()

    def _digest(self) -> str:
        """The SHA-256 of captions, labels and order, equal on every machine."""
        hashed = hashlib.sha256(json.dumps([len(self._ends), self.labels]).encode("ascii"))
        hashed.update(self._text)
        for numbers in (self._ends, self._label_numbers):
            ordered = array(numbers.typecode, numbers)
            if sys.byteorder == "big":
                ordered.byteswap()
            hashed.update(ordered)
        return hashed.hexdigest()

    @property
    def held(self) -> int:
        """How many captions are here: all, or those of a part."""
        return len(self._ends)

    def _place(self, number: int) -> int:
        place = (number - self.first) % self.total
        if place >= self.held:
            raise PlanError(
                f"caption {number} is not in this part, which has {self.held} of {self.total} from "
                f"{self.first} on, for one batch; give all captions, and leave part empty"
            )
        return place

    def caption(self, number: int) -> str:
        """The caption with this number, counted from 0. Raises PlanError: a part without it."""
        place = self._place(number)
        start = self._ends[place - 1] if place else 0
        return self._text[start : self._ends[place]].decode("utf-8")

    def label(self, number: int) -> str:
        """Its label."""
        return self.labels[self._label_numbers[self._place(number)]]

    def counts(self, start: int = 0, stop: int | None = None) -> Counter[str]:
        """Captions per label, of all or of those with numbers from `start` to before `stop`."""
        counted = Counter(self._label_numbers[start:stop])
        return Counter({self.labels[number]: counted[number] for number in sorted(counted)})

    def part(self, first: int, count: int) -> Captions:
        """`count` captions from number `first` on, all at most; after the last comes the first."""
        numbers = range(first, first + min(count, self.total))
        pairs = (
            (self.caption(each % self.total), self.label(each % self.total)) for each in numbers
        )
        return Captions(pairs, total=self.total, first=first % self.total, digest=self.digest)

    def lines(self) -> Iterator[str]:
        """The captions as lines of JSON, which `parse_captions` reads back."""
        for place in range(self.held):
            number = self.first + place
            pair = {"caption": self.caption(number), "label": self.label(number)}
            yield json.dumps(pair, ensure_ascii=False) + "\n"

    def part_text(self) -> str:
        """What tells a part from a list of its own: JSON, for `part_of`."""
        return json.dumps({"captions": self.total, "sha256": self.digest, "first": self.first})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Captions):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Captions{self._key()}"

    def _key(self) -> tuple[str, int, int, int]:
        return self.digest, self.total, self.first, self.held


def read_captions(path: Path, label: str = "") -> Captions:
    """The captions of a file; `label` is for those that have none, by default "captions".

    Raises:
        PlanError: the file is missing, is not UTF-8 text, is malformed (the line is named), or has
            no captions.
    """
    what = f"captions file {path}"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
            return _captions(_reader(path.suffix.lower())(file, what), what, label)
    except FileNotFoundError:
        raise PlanError(
            f"{what} does not exist; give a text file with one caption per line, a CSV file or "
            "JSON lines"
        ) from None
    except OSError as error:
        raise PlanError(f"cannot read {what}: {error.strerror or error}") from error


def parse_captions(text: str, label: str = "") -> Captions:
    """Captions from text, one per line, or JSON lines if the first one begins with `{"`.

    Raises:
        PlanError: no captions, or a malformed line.
    """
    text = text.lstrip("\ufeff")
    is_json = re.match(r'\s*\{\s*"', text) is not None
    file = io.StringIO(text, newline=None)
    return _captions((_json_lines if is_json else _plain)(file, "captions"), "captions", label)


def part_of(text: str, part: str) -> Captions:
    """The part of captions that `Captions.lines` and `Captions.part_text` describe.

    Raises:
        PlanError: they do not.
    """
    try:
        value = json.loads(part)
        total, first, digest = (value[name] for name in ("captions", "first", "sha256"))
        whole = all(type(each) is int for each in (total, first))
        if not whole or not 0 <= first < total or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError("numbers that do not belong together")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PlanError(
            f"part is written by the SynthGrid client ({error}); leave it empty"
        ) from error
    held = parse_captions(text)
    if held.held > total:
        raise PlanError(f"part says that there are {total} captions, but here are {held.held}")
    pairs = ((held.caption(each), held.label(each)) for each in range(held.held))
    return Captions(pairs, total=total, first=first, digest=digest)


def _captions(found: _Found, what: str, label: str) -> Captions:
    default = label.strip() or DEFAULT_LABEL

    def pairs() -> Iterator[tuple[str, str]]:
        for count, (line, caption, own) in enumerate(found, 1):
            if count > MOST_CAPTIONS:
                raise PlanError(f"{what} has more than {MOST_CAPTIONS} captions; give less at once")
            if problem := _problem(caption, own):
                raise PlanError(f"{what} line {line}: {problem}")
            yield caption, own or default

    if problem := _problem("-", default):
        raise PlanError(f"the label of {what}: {problem}")
    made = Captions(pairs())
    if not made.total:
        raise PlanError(f"{what} has no captions; write one per line")
    return made


def _problem(caption: str, label: str) -> str:
    if not caption:
        return "there is no caption; write one, or delete the line"
    if len(caption) > LONGEST_CAPTION:
        return f"{len(caption)} characters; a caption has at most {LONGEST_CAPTION}"
    if odd := _ODD.search(caption) or _ODD.search(label):
        if _HALF.search(caption + label):
            return "this is not UTF-8 text; save the file as UTF-8"
        return f"the control character {odd.group()!a}; give plain text"
    return ""


def _reader(suffix: str) -> Callable[[TextIO, str], _Found]:
    if suffix in _DELIMITERS:
        return lambda file, what: _table(file, what, _DELIMITERS[suffix])
    return _json_lines if suffix in _JSON_LINES else _plain


def _plain(file: TextIO, what: str) -> _Found:
    for number, line in enumerate(file, 1):
        if caption := line.strip():
            yield number, caption, ""


def _json_lines(file: TextIO, what: str) -> _Found:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or long"
            raise PlanError(
                f"{what} line {number} is not valid JSON ({reason}); expected {_EXPECTED}"
            ) from None
        caption = value.get("caption") if isinstance(value, dict) else None
        label = (value.get("label") or "") if isinstance(value, dict) else ""
        if not isinstance(caption, str) or not isinstance(label, str):
            raise PlanError(f"{what} line {number}: expected {_EXPECTED}, both text")
        yield number, caption.strip(), label.strip()


def _table(file: TextIO, what: str, delimiter: str) -> _Found:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = _header(row, what, reader.line_num)
            elif len(row) != len(header):
                raise PlanError(
                    f"{what} line {reader.line_num} has {len(row)} cells, and the header "
                    f"{len(header)}; put quotes around a caption with '{delimiter}' in it"
                )
            else:
                label = row[header.index("label")].strip() if "label" in header else ""
                yield reader.line_num, row[header.index("caption")].strip(), label
    except csv.Error as error:
        raise PlanError(f"{what} line {reader.line_num} is not valid CSV: {error}") from None


def _header(row: list[str], what: str, line: int) -> list[str]:
    names = [name.strip().lower() for name in row]
    if "caption" not in names:
        raise PlanError(f"{what} has no column 'caption' in line {line}; name the columns there")
    return names

"""Banks of prompt parts in files: text with one entry per line, JSON, or CSV.

autumn.txt     one entry per line; blank lines and lines that begin with # are ignored
banks.json     ["in the rain", ...], or several banks: {"contexts": [...], "styles": [...]}
banks.csv      a header and one entry per row, in the column named after the bank ("context" or
               "contexts") or in the only column; .tsv is the same with tabs

A message names the file and the line, and never quotes what is there: whoever opens somebody
else's workflow did not choose the file. Standard library only.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PlanError
from ..textfile import read_text

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class BankEntry:
    """One entry of a bank and its place in the file: "line 3", or "entry 3" of a JSON list."""

    text: str
    place: str


def read_bank(path: Path, bank: str) -> tuple[BankEntry, ...]:
    """The entries of a file; `bank` is "templates", "contexts" or "styles".

    Raises:
        PlanError: the file is missing, is not UTF-8 text, is malformed (the line is named), or has
            no entries.
    """
    text = read_text(
        path,
        f"{bank}_file",
        "give a text file with one entry per line, a JSON file or a CSV file",
    )
    suffix = path.suffix.lower()
    if suffix == ".json":
        entries = list(_from_json(text, path, bank))
    elif suffix in _DELIMITERS:
        entries = list(_from_table(text, path, bank, _DELIMITERS[suffix]))
    else:
        lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
        entries = [
            BankEntry(line, f"line {number}")
            for number, line in lines
            if line and not line.startswith("#")
        ]
    if not entries:
        raise PlanError(f"{bank}_file {path} has no entries; write one per line")
    return tuple(entries)


def _from_json(text: str, path: Path, bank: str) -> Iterator[BankEntry]:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(
            f"{bank}_file {path} line {error.lineno} is not valid JSON: {error.msg}"
        ) from error
    except RecursionError as error:
        raise PlanError(
            f'{bank}_file {path} is not a list of texts; expected ["...", ...]'
        ) from error
    if isinstance(value, dict):
        if bank not in value:
            raise PlanError(
                f"{bank}_file {path} has no key '{bank}'; "
                'expected ["...", ...] or {"' + bank + '": ["...", ...]}'
            )
        value = value[bank]
    if not isinstance(value, list):
        raise PlanError(f"{bank}_file {path}: expected a list of texts, not {type(value).__name__}")
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, str) or not entry.strip() or "\n" in entry.strip():
            raise PlanError(f"{bank}_file {path} entry {number} must be one line of text")
        yield BankEntry(entry.strip(), f"entry {number}")


def _from_table(text: str, path: Path, bank: str, delimiter: str) -> Iterator[BankEntry]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    column: int | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if column is None:
                column, width = _column(row, path, bank), len(row)
            elif len(row) != width or not row[column].strip() or "\n" in row[column].strip():
                raise PlanError(
                    f"{bank}_file {path} line {reader.line_num}: expected {width} cells, with one "
                    f"line of text in column {column + 1}"
                )
            else:
                yield BankEntry(row[column].strip(), f"line {reader.line_num}")
    except csv.Error as error:
        raise PlanError(
            f"{bank}_file {path} line {reader.line_num} is not valid CSV: {error}"
        ) from error


def _column(header: list[str], path: Path, bank: str) -> int:
    names = [name.strip().lower() for name in header]
    for name in (bank, bank.removesuffix("s")):
        if name in names:
            return names.index(name)
    if len(names) == 1:
        return 0
    raise PlanError(f"{bank}_file {path} has no column '{bank}' in line 1")

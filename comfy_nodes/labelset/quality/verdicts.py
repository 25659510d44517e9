"""What a check says of each image: a CSV file beside the labelled folder, never in its records.

    <folder>.quality/<scorer>.csv     one row an image, keyed by the SHA-256 of its bytes
    <folder>.quarantine/              where rejected images go, if somebody says so

The first five columns are fixed; each further one is a score, a number or empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import LabelsetError
from ..files import read_regular, write_atomically

COLUMNS = ("sha256", "file_name", "label", "verdict", "reason")
KEEP, REJECT = "keep", "reject"
QUALITY, QUARANTINE = ".quality", ".quarantine"  # what follows the name of the folder


@dataclass(frozen=True)
class Verdict:
    """One image's row. `file_name` is relative to the folder's root, with forward slashes; `reason`
    says in words why the image is rejected, "" if it is kept. A score may be NaN: not known."""

    sha256: str
    file_name: str
    label: str
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def rejected(self) -> bool:
        """Whether the check would leave this image out."""
        return bool(self.reason)


def quality_folder(root: Path) -> Path:
    """Where the checks of the labelled folder `root` are kept."""
    return _beside(root, QUALITY)


def checked_folder(quality: Path) -> Path:
    """The labelled folder whose checks are kept in `quality`."""
    return quality.with_name(quality.name.removesuffix(QUALITY))


def checks_of(root: Path) -> list[Path]:
    """The CSV files of all checks of the labelled folder `root`, the newest first."""
    files = [each for each in quality_folder(root).glob("*.csv") if each.is_file()]
    return sorted(files, key=lambda each: (each.stat().st_mtime_ns, each.name), reverse=True)


def quarantine_folder(root: Path) -> Path:
    """Where rejected images of the labelled folder `root` are moved to."""
    return _beside(root, QUARANTINE)


def _beside(root: Path, ending: str) -> Path:
    """Beside the folder itself, also if `root` is "." or a link to it."""
    root = root.resolve()
    return root.with_name(root.name + ending)


def write_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Writes the CSV file whole or not at all."""
    rows = list(verdicts)
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *scores])
    for row in rows:
        known = [row.scores.get(name, math.nan) for name in scores]
        writer.writerow(
            [
                *(row.sha256, row.file_name, row.label),
                *(REJECT if row.rejected else KEEP, row.reason),
                *("" if math.isnan(score) else f"{score:.6g}" for score in known),
            ]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode("utf-8", errors="surrogatepass"))


def read_verdicts(path: Path) -> list[Verdict]:
    """The rows of a check.

    Raises:
        LabelsetError: the file cannot be read, or is not one that a check wrote; the message names
            the line.
    """
    try:
        text = read_regular(path).decode("utf-8-sig", errors="surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsetError(f"cannot read {path}: {error}") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
        if tuple(header[: len(COLUMNS)]) != COLUMNS:
            raise LabelsetError(
                f"{path} is not a check: its first columns must be {', '.join(COLUMNS)}; make one "
                "with: synthgrid check"
            )
        return [_verdict(row, header, f"{path} line {rows.line_num}") for row in rows]
    except csv.Error as error:
        raise LabelsetError(f"{path} line {rows.line_num}: {error}") from error


def _verdict(row: Sequence[str], header: Sequence[str], where: str) -> Verdict:
    if len(row) != len(header):
        raise LabelsetError(f"{where} has {len(row)} values instead of {len(header)}")
    digest, file_name, label, verdict, reason = row[: len(COLUMNS)]
    if verdict not in (KEEP, REJECT) or (verdict == REJECT) != bool(reason):
        raise LabelsetError(f"{where}: the verdict must be {KEEP}, or {REJECT} with a reason")
    try:
        scores = [float(value or "nan") for value in row[len(COLUMNS) :]]
    except ValueError as error:
        raise LabelsetError(f"{where}: {error}; a score is a number") from error
    named = dict(zip(header[len(COLUMNS) :], scores, strict=True))
    return Verdict(digest, file_name, label, reason, named)

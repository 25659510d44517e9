"""A line of metadata.jsonl, as it stands in the file."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import LabelsetError
from .record import ImageRecord


@dataclass(frozen=True)
class Line:
    """A line of metadata.jsonl: its number, counted from 1, and its bytes unchanged."""

    number: int
    data: bytes

    @property
    def torn(self) -> bool:
        """Whether the line has no end, after a kill or a full disk; only the last line can be."""
        return not self.data.endswith(b"\n")

    @property
    def blank(self) -> bool:
        """Whether the line is empty or has only spaces."""
        return not self.data.strip()

    def record(self, *, errors: str = "replace") -> ImageRecord:
        """The record on the line; `errors` is as in bytes.decode.

        Raises:
            LabelsetError: the line is not a record.
        """
        try:
            return ImageRecord.from_json(self.data.decode("utf-8", errors))
        except UnicodeDecodeError as error:
            raise LabelsetError(f"not a record: {error}") from error

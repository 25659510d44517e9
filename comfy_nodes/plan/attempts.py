"""Rows and the attempts at them as text, as the batcher's input `only` has them.

    parse_rows("3, 7@2")         # {3: 0, 7: 2}: row 3 as planned, row 7 at its second new attempt
    rows_text({3: 0, 7: 2})      # "3,7@2"

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import PlanError

_ROW = re.compile(r"\s*([0-9]{1,18})\s*(?:@\s*([0-9]{1,18})\s*)?", re.ASCII)


def parse_rows(text: str) -> dict[int, int]:
    """Row -> attempt, in the order of the text.

    Raises:
        PlanError: anything but numbers with commas between them, or two attempts at one row.
    """
    rows: dict[int, int] = {}
    for part in text.split(","):
        match = _ROW.fullmatch(part)
        if match is None:
            raise PlanError(
                "'only' must be image numbers separated by commas, such as '3, 7', or '7@2' for "
                f"attempt 2 at image 7, not '{text}'"
            )
        row, attempt = int(match[1]), int(match[2] or 0)
        if rows.setdefault(row, attempt) != attempt:
            raise PlanError(f"'only' has two attempts at image {row}; a batch makes one of them")
    return rows


def rows_text(rows: Mapping[int, int]) -> str:
    """The text that `parse_rows` reads; attempt 0 is not written."""
    return ",".join(f"{row}@{attempt}" if attempt else str(row) for row, attempt in rows.items())

"""Text files that people write: UTF-8, with messages that name the file and the line.

A message never quotes what is there: whoever opens somebody else's workflow did not choose the
file. Standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

from .errors import PlanError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_text(path: Path, what: str, hint: str) -> str:
    """The file's text, with "\\n" at the end of every line; messages call it "`what` <path>".

    Raises:
        PlanError: the file is missing (`hint` says what to give), cannot be read, is not UTF-8, or
            has control characters; the line is named.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PlanError(f"{what} {path} does not exist; {hint}") from None
    except (OSError, ValueError) as error:
        raise PlanError(
            f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PlanError(
            f"{what} {path} line {line} is not UTF-8 text; save the file as UTF-8"
        ) from None
    if odd := _CONTROL.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise PlanError(
            f"{what} {path} line {line} has the control character {odd.group()!a}; "
            "give a plain text file"
        )
    return text

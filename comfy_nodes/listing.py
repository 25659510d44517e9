"""Lines of text fields, and lists of names in messages. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def parse_lines(text: str) -> tuple[str, ...]:
    """The non-empty lines of a text field, trimmed; lines that begin with '#' are comments."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def listing(names: Sequence[str], most: int = 10) -> str:
    """ "'a', 'b' and 7 more": the first names, and how many follow."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"

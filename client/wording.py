"""What a server says, made fit to be shown: on a terminal, in a message, in a file. No network.

A server may send back what it was sent, and in any spelling; and it may send characters that move
the cursor, clear the screen, or write backwards. Answers themselves are never changed: only what
is shown of them.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
# A shorter secret occurs in other words: it is hidden only where it stands alone.
_EASY_TO_TELL = 8
# C0 and C1, marks that change the direction of writing, other ends of line, half characters.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text on one line, with control characters spelled out, such as \x1b."""
    return _CONTROL.sub(_spelled_out, text)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON value with every text in it changed, keys too."""

    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [changed(each) for each in value]
        if isinstance(value, Mapping):
            return {change(str(key)): changed(each) for key, each in value.items()}
        return value

    try:
        return changed(value)
    except RecursionError:
        return "a value nested too deep"


def _spelled_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in "\t\n":
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, also where they are escaped as in JSON, a URL or HTML."""
    pattern = _pattern(tuple(sorted({*secrets} - {""}, key=len, reverse=True)))
    return text if pattern is None else pattern.sub(HIDDEN, text)


@lru_cache(maxsize=64)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """Longest first, so that hiding a part of one never reveals the rest of another."""
    if not secrets:
        return None
    return re.compile("|".join(map(_one, secrets)))


def _one(secret: str) -> str:
    spelled = "".join(map(_character, secret))
    return spelled if len(secret) >= _EASY_TO_TELL else rf"(?<!\w){spelled}(?!\w)"


def _character(character: str) -> str:
    """A pattern for the ways to spell a character."""
    if character == " ":
        return r"(?:\s+|\+|%20|\\+u0020|&#(?:32|[xX]0*20);)"
    code = ord(character)
    names = {quote(character, safe=""), html.escape(character), json.dumps(character)[1:-1]}
    names |= {f"%{code:02X}"} if code < 0x80 else set()
    escaped = rf"\\+(?:u0*{code:x}|x{code:x})" if code < 0x10000 else r"(?!)"
    spelled = "|".join([*map(re.escape, sorted(names)), escaped, f"&#(?:0*{code}|x0*{code:x});"])
    return rf"(?:\\*{re.escape(character)}|(?i:{spelled}))"

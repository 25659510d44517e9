"""Which phrases of a language model may go into a prompt bank. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..banks.prompt_bank import is_line
from ..errors import PlanError
from ..plan.alternatives import parse

LONGEST = 200  # characters
NEAR = 0.8  # Jaccard index of the words from which two phrases are the same: our choice
BANNED = ("watermark", "caption", "collage", "nsfw", "nude")


class Filter:
    """Takes phrases for a class one by one, and says why not.

    Refused are phrases that are too long, have special syntax or control characters, name another
    class or something banned, or say nearly what an earlier one says.
    """

    def __init__(self, label: str, others: Iterable[str], banned: Sequence[str] = BANNED) -> None:
        self._own = _named((label,))
        self._others = _named(each for each in others if each != label)
        self._banned = _named(banned)
        self._seen: list[frozenset[str]] = []
        self.kept: list[str] = []
        self.dropped: dict[str, int] = {}

    def take(self, phrase: str) -> bool:
        """Keeps a phrase, cleaned, or counts the reason for which it is dropped."""
        text = " ".join(phrase.split()).strip().rstrip(".,;").strip()
        words = frozenset(re.findall(r"\w+", text.casefold()))
        if reason := self._reason(phrase, text, words):
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
            return False
        self._seen.append(words)
        self.kept.append(text)
        return True

    def _reason(self, phrase: str, text: str, words: frozenset[str]) -> str:
        without_own = self._own.sub(" ", text) if self._own else text
        if not words or len(text) > LONGEST or not is_line(phrase):
            return "not a phrase"
        if text.startswith("#") or not _is_plain(text):
            return "special syntax"
        if self._others and self._others.search(without_own):
            return "names another class"
        if self._banned and self._banned.search(text):
            return "banned word"
        if any(len(words & each) >= NEAR * len(words | each) for each in self._seen):
            return "near duplicate"
        return ""


def _named(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of the names as whole words, longest first, in any case; also with a plural s."""
    parts = [re.escape(name.strip()) for name in sorted(names, key=len, reverse=True)]
    parts = [each for each in parts if each]
    if not parts:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?:s|es)?(?!\w)", re.IGNORECASE)


def _is_plain(text: str) -> bool:
    try:
        return not parse(text).is_special and not set(text) & set("{}")
    except PlanError:
        return False

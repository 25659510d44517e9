"""Virtual synthetic sources: the images of a source that a check would keep, and as many at random.

    clean=syn:label,outlier,real>=0.1

is the source "clean": images of "syn" whose label check and outlier score pass, and whose score
"real" is at least 0.1. Beside it "clean.random" has the same number of images per class, drawn from
"syn" without the filter, so that a filter that only shrinks the set does not look good.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainer.arms import SOURCE_NAME
from trainer.errors import ConfigError

RANDOM = ".random"
# What a check can reject an image for, as the first word of a reason or by its threshold.
REASONS = ("label", "copy", "blank", "outlier", "real")
_TERM = re.compile(r"(?P<score>[A-Za-z_][\w.-]*?)(?:(?P<sign>>=|<=|>|<)(?P<limit>[^<>=]+))?")
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = "NAME=SOURCE:label,outlier,real>=0.1"


@dataclass(frozen=True)
class Term:
    """One condition: a reason that must not apply, or a score compared with a number."""

    score: str
    sign: str = ""
    limit: float = 0.0

    def holds(self, value: float) -> bool:
        """Whether a score meets the condition; NaN, which is not known, does not."""
        return _SIGNS[self.sign](value, self.limit)


@dataclass(frozen=True)
class Selection:
    """The virtual source `name`: images of `source` that meet all `terms`."""

    name: str
    source: str
    terms: tuple[Term, ...]
    text: str

    @property
    def random(self) -> str:
        """The source with as many images of each class without the filter."""
        return self.name + RANDOM


def parse_selection(text: str) -> Selection:
    """The selection in a text like the one above.

    Raises:
        ConfigError: it has another form, or a term is none.
    """
    name, equals, rest = text.partition("=")
    source, colon, terms = rest.partition(":")
    if not equals or not colon or not terms.strip():
        raise ConfigError(f"--select {text} is not of the form {_FORM}")
    for each in (name, source):
        if not SOURCE_NAME.fullmatch(each) or each.endswith(RANDOM):
            raise ConfigError(
                f"--select {text}: '{each}' is not a valid name; use letters, digits, '_', '-' and "
                f"'.', and not the end {RANDOM}"
            )
    return Selection(name, source, tuple(_term(text, each) for each in terms.split(",")), text)


def _term(text: str, part: str) -> Term:
    found = _TERM.fullmatch(part.strip())
    if found and found["sign"]:
        try:
            return Term(found["score"], found["sign"], float(found["limit"]))
        except ValueError:
            pass
    elif found and found["score"] in REASONS:
        return Term(found["score"])
    raise ConfigError(
        f"--select {text}: '{part.strip()}' is neither a reason ({', '.join(REASONS)}) nor a score "
        "compared with a number, as in real>=0.1"
    )

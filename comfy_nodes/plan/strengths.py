"""Strengths of a plan: how far the images may move away from the real ones that they start from.

    parse_strengths("0.3, 0.5, 0.7")     # (0.3, 0.5, 0.7)

A sampler call has one strength (BasicScheduler's `denoise`), so rows of several strengths are
sampled in several calls. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ..errors import PlanError

MOST_STRENGTHS = 100


def parse_strengths(text: str) -> tuple[float, ...]:
    """Numbers between commas or spaces, in the order given; () for a blank text.

    Raises:
        PlanError: something else, or a strength that `check_strengths` refuses.
    """
    found = []
    for word in filter(None, re.split(r"[\s,;]+", text)):
        try:
            found.append(float(word))
        except ValueError:
            raise PlanError(
                f"strengths: '{word[:40]}' is not a number; write them as 0.3, 0.5, 0.7"
            ) from None
    check_strengths(found)
    return tuple(found)


def check_strengths(strengths: Sequence[float]) -> None:
    """Raises PlanError for a strength outside (0, 1], one given twice, or too many."""
    for each in strengths:
        if not (math.isfinite(each) and 0.0 < each <= 1.0):
            raise PlanError(
                f"strength is {each:g}; it must be above 0 (the real image) and at most 1 "
                "(nothing of it)"
            )
    if len(set(strengths)) < len(strengths):
        raise PlanError(f"a strength is given twice: {strengths_text(strengths)}")
    if len(strengths) > MOST_STRENGTHS:
        raise PlanError(f"{len(strengths)} strengths are too many; at most {MOST_STRENGTHS}")


def strengths_text(strengths: Iterable[float]) -> str:
    """The text that `parse_strengths` reads: "0.3, 0.5, 0.7"."""
    return ", ".join(map(repr, strengths))

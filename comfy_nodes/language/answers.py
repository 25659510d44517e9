"""What language models write about classes, read into a prompt bank.

An answer about one class is a JSON object with three lists of texts:

    {"meanings": ["a large bird", ...], "contexts": ["in a marsh", ...], "styles": [...]}

`synthgrid bank` asks for it, class by class; a node takes any text that holds answers, or a whole
bank. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from ..banks.prompt_bank import ClassBank, Meaning, PromptBank, bank_from_json
from ..errors import PlanError
from ..listing import listing
from ..plan.alternatives import parse
from ..plan.classes import ClassEntry
from .phrases import BANNED, Filter

LISTS = ("meanings", "contexts", "styles")
_OF_A_BANK = {"shared", "classes"}
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


class NotAnswered(ValueError):
    """A text that is not what was asked for; the message says what it is instead."""


def read_answer(text: str, finish_reason: str) -> dict[str, list[str]]:
    """The three lists of an answer; entries that are no text are left out.

    Raises:
        NotAnswered: it was cut off, or is not the object that was asked for.
    """
    if finish_reason == "length":
        raise NotAnswered("was cut off before its end")
    body = text.strip()
    if body.startswith("```"):  # many models wrap JSON in a fence, whatever they are told
        body = body.strip("`").removeprefix("json").strip()
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAnswered("is not JSON") from None
    return _lists(value)


def _lists(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not all(isinstance(value.get(n), list) for n in LISTS):
        raise NotAnswered("has not the lists meanings, contexts and styles")
    return {name: [each for each in value[name] if isinstance(each, str)] for name in LISTS}


class Gathered:
    """What is kept of the answers about one class."""

    def __init__(
        self, entry: ClassEntry, others: Sequence[str], banned: Sequence[str] = BANNED
    ) -> None:
        self.entry = entry
        self.meanings = Filter("", (), ())
        self.contexts = Filter(entry.name, others, banned)
        self.styles = Filter(entry.name, others, banned)

    def take(self, lists: Mapping[str, Sequence[str]]) -> None:
        """Keeps the phrases of an answer that may go into a bank."""
        for name, phrases in lists.items():
            for phrase in phrases:
                getattr(self, name).take(phrase)

    def dropped(self) -> dict[str, int]:
        """Reason -> number of contexts and styles that were left out for it."""
        return _sums((self.contexts.dropped, self.styles.dropped))

    def class_bank(
        self, source: str, contexts: int | None = None, styles: int | None = None
    ) -> ClassBank:
        """The class's entries, at most so many; `source` says who named the meanings."""
        return ClassBank(
            self.entry.definition,
            tuple(self.contexts.kept[:contexts]),
            tuple(self.styles.kept[:styles]),
            tuple(Meaning(each, source) for each in self.meanings.kept),
        )


def bank_from_text(
    text: str, classes: Sequence[ClassEntry], provenance: Mapping[str, Any]
) -> tuple[PromptBank, dict[str, int]]:
    """(the bank that a text holds, reason -> number of phrases left out).

    The text is a bank, which is kept as it is; or {class: answer, ...}; or one answer for each
    class, in the order of the classes. Other words may stand before and after. Phrases of answers
    are filtered as `synthgrid bank` does.

    Raises:
        PlanError: the text is none of these, or has nothing usable for a class.
    """
    found = _objects(text)
    if len(found) == 1 and _OF_A_BANK & found[0][0].keys():
        bank = bank_from_json(found[0][1], "the bank in the text")
        _refuse_malformed(bank)
        return bank, {}
    gathered = []
    for entry, answer in _by_class([value for value, _ in found], classes):
        one = Gathered(entry, [each.name for each in classes])
        try:
            one.take(_lists(answer))
        except NotAnswered as error:
            raise PlanError(f"the answer about class '{entry.name}' {error}") from None
        if not one.contexts.kept and not one.styles.kept:
            why = _counted(one.dropped()) or "its lists are empty"
            raise PlanError(f"no usable context or style for class '{entry.name}': {why}")
        gathered.append(one)
    kept = {one.entry.name: one.class_bank("the text") for one in gathered}
    dropped = _sums(one.dropped() for one in gathered)
    return PromptBank(classes=kept, provenance=provenance), dropped


def _objects(text: str) -> list[tuple[dict[str, Any], str]]:
    """Every outermost JSON object of a text, with its own text.

    None is guessed at: after a brace that begins no object the rest could be parts of one, which
    would then be taken for answers about the wrong classes.
    """
    text, decoder, place = _THOUGHT.sub("", text), json.JSONDecoder(), 0
    found = []
    while (start := text.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise PlanError(
                f"line {error.lineno} of the text is not valid JSON: {error.msg}; perhaps the "
                "model was cut off, so allow longer answers"
            ) from None
        except RecursionError:
            raise PlanError("the text is nested too deeply to be an answer") from None
        found.append((value, text[start:place]))
    if not found:
        raise PlanError(
            'the text has no JSON object; expected a bank, or {"meanings": [...], '
            '"contexts": [...], "styles": [...]} for each class'
        )
    return found


def _by_class(
    values: Sequence[dict[str, Any]], classes: Sequence[ClassEntry]
) -> list[tuple[ClassEntry, Any]]:
    if len(values) == 1 and not set(LISTS) & values[0].keys():
        (by_name,), names = values, [entry.name for entry in classes]
        if unknown := [name for name in by_name if name not in names]:
            raise PlanError(f"the text has answers for {listing(unknown)}, not among the classes")
        if lacking := [name for name in names if name not in by_name]:
            raise PlanError(f"the text has no answer for {listing(lacking)}")
        return [(entry, by_name[entry.name]) for entry in classes]
    if len(values) != len(classes):
        raise PlanError(
            f"the text has {len(values)} answers for {len(classes)} classes; give one for each "
            'class, in their order, or {"class": {...}, ...}'
        )
    return list(zip(classes, values, strict=True))


def _refuse_malformed(bank: PromptBank) -> None:
    """Raises PlanError for a context or style whose alternatives could not be drawn from."""
    parts = ((name, each) for name, each in bank.classes.items())
    shared = ("shared", ClassBank("", bank.contexts, bank.styles))
    for name, each in (shared, *parts):
        for text in chain(each.contexts, each.styles):
            try:
                parse(text)
            except PlanError as error:
                raise PlanError(f"the bank in the text, {name}: {error}") from None


def _sums(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for reason, count in each.items():
            total[reason] = total.get(reason, 0) + count
    return total


def _counted(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())

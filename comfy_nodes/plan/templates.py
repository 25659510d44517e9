"""Prompt templates, and the banks that fill their placeholders.

    texts = PromptTemplates(("a photo of a {class}, {context}",), contexts=("in snow", "in fog"))

A class may have contexts, styles and a definition of its own (comfy_nodes.banks); where it
has none, it uses those that all classes share. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ..banks.prompt_bank import ClassBank, PromptBank
from ..errors import PlanError
from .alternatives import Choice, Parts, Wildcard, all_parts, parse, shortened
from .classes import ClassEntry
from .wildcards import Extent, Wildcards, used_wildcards

DEFAULT_TEMPLATE = "a photo of a {class}"
PLACEHOLDERS = ("class", "definition", "context", "style")
BANK_OF = {"context": "contexts", "style": "styles"}  # placeholder -> its bank
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class PromptTemplates:
    """Prompt templates, the banks that fill their placeholders, and the wildcards of both.

    Templates and banks may have alternatives and wildcards (see alternatives.py). `wildcards`
    are (name, entries), only those that are used. With `is_literal` braces in banks and "__" are
    plain text, as in plans made before there were any. `per_class` is (class, its own definition,
    contexts and styles): a class uses its own where it has some, and otherwise the common ones.

    Raises:
        PlanError: no template, an unknown placeholder, a placeholder whose bank is empty, or
            alternatives or wildcards that are malformed or missing.
    """

    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    negative_prompt: str = ""
    contexts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    wildcards: tuple[tuple[str, tuple[str, ...]], ...] = ()
    is_literal: bool = False
    per_class: tuple[tuple[str, ClassBank], ...] = ()

    @classmethod
    def with_bank(
        cls,
        bank: PromptBank,
        find: Callable[[str], Sequence[str]],
        *,
        templates: tuple[str, ...],
        negative_prompt: str = "",
        contexts: tuple[str, ...] = (),
        styles: tuple[str, ...] = (),
    ) -> PromptTemplates:
        """Templates with a bank, whose shared contexts and styles replace those given.

        `find` returns the entries of a wildcard that any of the texts uses. Raises PlanError as the
        constructor and `find` do.
        """
        contexts, styles = bank.contexts or contexts, bank.styles or styles
        own = bank.per_class()
        used = used_wildcards(_texts(templates, contexts, styles, own), find)
        return cls(templates, negative_prompt, contexts, styles, used, per_class=own)

    def __post_init__(self) -> None:
        if not self.templates:
            raise PlanError(
                f"no prompt template; give at least one, for example '{DEFAULT_TEMPLATE}'"
            )
        for template in self.templates:
            self._check(template)
        if self.is_literal:
            return
        for name, bank in BANK_OF.items():
            for entry in self._all(bank):
                self._explained(f"{name} '{shortened(entry)}'", entry)
        if any(isinstance(each, (Choice, Wildcard)) for each in all_parts(self._negative())):
            raise PlanError(
                "the negative prompt is the same for every image; it cannot have alternatives or "
                "wildcards"
            )

    def _negative(self) -> Parts:
        try:
            return parse(self.negative_prompt).parts
        except PlanError as error:
            raise PlanError(f"negative prompt: {error}") from error

    def _explained(self, what: str, text: str) -> Extent:
        try:
            return self._lists.check(text)
        except PlanError as error:
            raise PlanError(f"{what}: {error}") from error

    def _check(self, template: str) -> None:
        shown = f"template '{shortened(template)}'"
        if self.is_literal:
            names = frozenset(placeholders(template))
            names_class = bool(names & {"class", "definition"})
        else:
            extent = self._explained(shown, template)
            names, names_class = extent.names, extent.names_class
        for name in sorted(names):
            if name not in PLACEHOLDERS:
                known = ", ".join("{" + each + "}" for each in PLACEHOLDERS)
                raise PlanError(f"unknown placeholder '{{{name}}}' in {shown}; known: {known}")
        for name, bank in BANK_OF.items():
            if name in names and not any(self._all(bank)):
                raise PlanError(
                    f"{shown} uses {{{name}}} but there are no {name}s; add some, one per line"
                )
        if not names_class:
            raise PlanError(
                f"{shown} does not name the class: every class would get the same prompt; "
                "add {class}"
            )

    def _all(self, bank: str) -> Iterator[str]:
        """The entries of a bank, "contexts" or "styles": the common ones, then each class's own."""
        yield from getattr(self, bank)
        for _, own in self.per_class:
            yield from getattr(own, bank)

    @cached_property
    def _own(self) -> dict[str, ClassBank]:
        return dict(self.per_class)

    def bank(self, kind: str, label: str) -> tuple[str, ...]:
        """What a class's prompts draw "context" or "style" from; () if there is nothing."""
        own: tuple[str, ...] = getattr(self._own.get(label), BANK_OF[kind], ())
        common: tuple[str, ...] = getattr(self, BANK_OF[kind])
        return own or common

    def definition(self, entry: ClassEntry) -> str:
        """A class's own words if it has some, otherwise those of the bank, otherwise ""."""
        own = self._own.get(entry.name)
        return entry.definition or (own.definition if own else "")

    def for_classes(self, labels: Collection[str]) -> PromptTemplates:
        """The same without what belongs to other classes, and without wildcards of theirs alone."""
        kept = tuple((name, own) for name, own in self.per_class if name in labels)
        if len(kept) == len(self.per_class):
            return self
        texts = _texts(self.templates, self.contexts, self.styles, kept)
        used = used_wildcards(texts, dict(self.wildcards).__getitem__)
        return replace(self, per_class=kept, wildcards=used)

    @cached_property
    def _lists(self) -> Wildcards:
        return Wildcards(dict(self.wildcards))

    @cached_property
    def expands(self) -> bool:
        """Whether any text has alternatives or wildcards, so that rows draw from them."""
        texts = _texts(self.templates, self.contexts, self.styles, self.per_class)
        return not self.is_literal and any(parse(text).is_special for text in texts)

    @property
    def names(self) -> set[str]:
        """Every placeholder that a prompt may have."""
        if not self.expands:
            return {name for template in self.templates for name in placeholders(template)}
        return set().union(*(self._lists.check(template).names for template in self.templates))

    def pieces(self, template: str, seed: int) -> Sequence[str]:
        """A template of the row with this seed: text and names by turns, text first and last."""
        return self._lists.pieces(template, seed, "template") if self.expands else _pieces(template)

    def text(self, kind: str, entry: str, seed: int) -> str:
        """An entry of a bank, "context" or "style", as the row with this seed has it."""
        if not self.expands:
            return entry
        pieces = self._lists.pieces(entry, seed, kind)
        pieces[1::2] = ["{" + name + "}" for name in pieces[1::2]]  # no placeholders in a bank
        return "".join(pieces)


def _texts(
    templates: tuple[str, ...],
    contexts: tuple[str, ...],
    styles: tuple[str, ...],
    per_class: Iterable[tuple[str, ClassBank]],
) -> Iterator[str]:
    yield from (*templates, *contexts, *styles)
    for _, own in per_class:
        yield from (*own.contexts, *own.styles)


def placeholders(template: str) -> list[str]:
    """The names between braces, in order: "a {style} {class}" -> ["style", "class"]."""
    return list(_pieces(template)[1::2])


def fill(template: str, values: Mapping[str, str | None]) -> str:
    """The template with every placeholder replaced; braces in the values stay as they are."""
    return filled(_pieces(template), values)


def filled(pieces: Sequence[str], values: Mapping[str, str | None]) -> str:
    """Text and names by turns, as `PromptTemplates.pieces` gives them, with values for names."""
    filled = list(pieces)
    filled[1::2] = [values[name] or "" for name in filled[1::2]]
    return "".join(filled)


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[str, ...]:
    """Text and names by turns, text first and last: "a {class}!" -> ("a ", "class", "!")."""
    return tuple(_PLACEHOLDER.split(template))

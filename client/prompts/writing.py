"""A bank written by a language model, class by class, from answers that are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank
from comfy_nodes.language.answers import Gathered, NotAnswered, read_answer
from comfy_nodes.language.phrases import BANNED
from comfy_nodes.plan import ClassEntry, digest

from ..errors import ClientError
from .answers import Answer, Answers
from .asking import Asked, question

MOST_SAMPLES = 4  # questions about one class


class Model(Protocol):
    """What answers questions."""

    def ask(self, question: Mapping[str, Any], *, max_tokens: int) -> Answer:
        """The answer to one question."""


class _Class(Gathered):
    """What is gathered for one class."""

    problem = ""

    def has_enough(self, asked: Asked) -> bool:
        contexts, styles = len(self.contexts.kept), len(self.styles.kept)
        return contexts >= asked.contexts and styles >= asked.styles

    def bank(self, asked: Asked) -> ClassBank:
        return self.class_bank(asked.model, asked.contexts, asked.styles)


def write_bank(
    classes: Sequence[ClassEntry],
    model: Model,
    answers: Answers,
    asked: Asked,
    *,
    banned: Sequence[str] = BANNED,
    on_class: Callable[[ClassEntry, int, int], None] = lambda entry, contexts, styles: None,
) -> PromptBank:
    """The bank of these classes; the same answers give the same bank.

    A class is asked about up to four times, until it has enough phrases that are kept. `on_class`
    is told how many contexts and styles a class has.

    Raises:
        ClientError: the model gives nothing usable for a class.
        ServerError: the model does not answer, or refuses.
    """
    others = [entry.name for entry in classes]
    found: dict[str, ClassBank] = {}
    for entry in classes:
        gathered = _Class(entry, others, banned)
        for sample in range(MOST_SAMPLES):
            _gather(gathered, question(entry, others, asked, sample), model, answers, asked)
            if gathered.has_enough(asked):
                break
        found[entry.name] = _checked(gathered, asked)
        on_class(entry, len(found[entry.name].contexts), len(found[entry.name].styles))
    return PromptBank(classes=found, provenance=_provenance(asked))


def _gather(
    gathered: _Class, asking: Mapping[str, Any], model: Model, answers: Answers, asked: Asked
) -> None:
    key = digest(asking)
    answer = answers.get(key)
    if answer is None:
        answer = model.ask(asking, max_tokens=asked.max_tokens)
        answers.add(key, answer)
    try:
        gathered.take(read_answer(answer.text, answer.finish_reason))
    except NotAnswered as error:
        gathered.problem = str(error)


def _checked(gathered: _Class, asked: Asked) -> ClassBank:
    bank = gathered.bank(asked)
    lacking = [
        name for name in ("contexts", "styles") if getattr(asked, name) and not getattr(bank, name)
    ]
    if lacking:
        why = gathered.problem and f"its last bad answer {gathered.problem}"
        why = why or ", ".join(f"{count} {reason}" for reason, count in gathered.dropped().items())
        raise ClientError(
            f"the model {asked.model} gave no usable {' and '.join(lacking)} for class "
            f"'{gathered.entry.name}' in {MOST_SAMPLES} answers ({why or 'all were empty'}); try "
            "another --model, or another --seed"
        )
    return bank


def _provenance(asked: Asked) -> dict[str, Any]:
    return {
        "made_by": "synthgrid bank",
        "model": asked.model,
        "contexts": asked.contexts,
        "styles": asked.styles,
        "temperature": asked.temperature,
        "seed": asked.seed,
    }

"""The meanings of a bank, and the user's real images: which meaning does each class have?

    s(c, m) = mean over the images x of class c of s(x, m)

The meaning with the highest score becomes the definition (label ambiguity resolution of Yu et al.
2023, "Diversify, Don't Fine-Tune", which takes CLIP's cosine for s; see words.py, and taxonomy.py
for a score without CLIP). Where images do not tell, nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank
from trainer.data.samples import Sample, fingerprint
from trainer.quality.meanings.decide import FEWEST, Decision, decide

CHOSEN = "definitions"  # in a bank's provenance: what was chosen here, by class
# From the images of a class and its meanings' texts to scores [n, k].
Scorer = Callable[[str, Sequence[Sample], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Resolved:
    """What became of one class. `decision` is None where there was nothing to decide, and
    `scores` [n, k] are those of `samples`.

    `outcome` is "chosen", "kept" (a person wrote a definition), "cannot tell", "too few images",
    "no images" or "no meanings".
    """

    label: str
    meanings: tuple[str, ...]
    outcome: str
    decision: Decision | None = None
    samples: tuple[Sample, ...] = ()
    scores: np.ndarray | None = None
    definition: str = ""

    @property
    def best(self) -> str:
        """The meaning with the highest score."""
        return self.meanings[self.decision.best] if self.decision else ""

    @property
    def runner_up(self) -> str:
        """The meaning with the second highest score, "" if there is one meaning."""
        if self.decision is None or self.decision.runner_up < 0:
            return ""
        return self.meanings[self.decision.runner_up]


def resolve(
    bank: PromptBank,
    samples: Mapping[str, Sequence[Sample]],
    score: Scorer,
    *,
    overwrite: bool = False,
    seed: int = 0,
) -> list[Resolved]:
    """One result for each class of the bank, in its order. `samples` are the real images by class.

    A definition that was not chosen here before is somebody's own, and stays unless `overwrite`.
    """
    before = _chosen(bank)
    return [
        _resolved(
            label,
            own,
            tuple(samples.get(label, ())),
            score,
            is_own=own.definition not in ("", before.get(label, {}).get("definition")),
            overwrite=overwrite,
            seed=seed,
        )
        for label, own in bank.classes.items()
    ]


def _resolved(
    label: str,
    own: ClassBank,
    samples: tuple[Sample, ...],
    score: Scorer,
    *,
    is_own: bool,
    overwrite: bool,
    seed: int,
) -> Resolved:
    meanings = tuple(each.text for each in own.meanings)
    nothing = "no meanings" if not meanings else "no images" if not samples else ""
    if nothing:
        return Resolved(label, meanings, nothing, definition=own.definition)
    scores = score(label, samples, meanings)
    decision = decide(scores, seed=seed)
    outcome, definition = "chosen", meanings[decision.best]
    if is_own and not overwrite:
        outcome, definition = "kept", own.definition
    elif not decision.is_clear:
        outcome = "too few images" if len(samples) < FEWEST else "cannot tell"
        definition = own.definition if is_own else ""
    return Resolved(label, meanings, outcome, decision, samples, scores, definition)


def _chosen(bank: PromptBank) -> Mapping[str, Mapping[str, Any]]:
    found = bank.provenance.get(CHOSEN, {})
    if not isinstance(found, Mapping):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, Mapping)}


def with_definitions(
    bank: PromptBank, results: Sequence[Resolved], *, scorer: Mapping[str, Any]
) -> PromptBank:
    """The bank with the chosen definitions, and in its provenance how each came about; `scorer`
    says by what."""
    classes = {
        each.label: replace(bank.classes[each.label], definition=each.definition)
        for each in results
    }
    chosen = {
        each.label: {
            "definition": each.definition,
            **scorer,
            "images": len(each.samples),
            "fingerprint": fingerprint(each.samples),
            **{name: round(value, 4) for name, value in each.decision.numbers.items()},
        }
        for each in results
        if each.outcome == "chosen" and each.decision is not None
    }
    provenance = {name: value for name, value in bank.provenance.items() if name != CHOSEN}
    return replace(
        bank,
        classes=dict(bank.classes) | classes,
        provenance=provenance | ({CHOSEN: chosen} if chosen else {}),
    )

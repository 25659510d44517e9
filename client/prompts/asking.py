"""What a language model is asked about a class; comfy_nodes.language.answers reads the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy_nodes.plan import ClassEntry

MOST_OTHERS = 60  # other classes that a question lists
_SYSTEM = (
    "You write short phrases in plain English from which images of one class of objects are "
    "generated. Answer with one JSON object and nothing else."
)


@dataclass(frozen=True)
class Asked:
    """How much a bank has for each class, and how the model draws."""

    model: str
    contexts: int = 20
    styles: int = 8
    temperature: float = 0.8  # as SynCLR (arXiv 2312.17742) has it
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contexts", "styles"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 to 1000")

    @property
    def max_tokens(self) -> int:
        """Enough for every phrase at 40 tokens, and some for the meanings."""
        return 512 + 40 * (self.contexts + self.styles)


def question(entry: ClassEntry, others: Sequence[str], asked: Asked, sample: int) -> dict[str, Any]:
    """All that decides an answer; another `sample` is another draw of the same question."""
    return {
        "model": asked.model,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": _text(entry, others, asked)},
        ],
        "schema": schema(asked),
        "temperature": asked.temperature,
        "seed": asked.seed,
        "sample": sample,
    }


def _text(entry: ClassEntry, others: Sequence[str], asked: Asked) -> str:
    lines = [f"The class: {entry.name}"]
    if entry.definition:
        lines.append(f"What it is here: {entry.definition}")
    rest = [name for name in others if name != entry.name][:MOST_OTHERS]
    if rest:
        lines.append(f"Never name another class: {', '.join(rest)}")
    lines += [
        '"meanings": every common meaning of the class name, each as a short noun phrase that '
        "tells it from the others.",
        f'"contexts": {asked.contexts} different phrases of 3 to 15 words that continue "a photo '
        f'of a {entry.name}, ". Vary foreground, background, light, camera and posture as '
        "widely as they really occur.",
        f'"styles": {asked.styles} different styles of pictures, each a phrase of 1 to 6 words.',
    ]
    return "\n".join(lines)


def schema(asked: Asked) -> dict[str, Any]:
    """The JSON schema of an answer."""

    def texts(most: int) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}, "maxItems": most}

    lists = {"meanings": 12, "contexts": 2 * asked.contexts, "styles": 2 * asked.styles}
    return {
        "type": "object",
        "properties": {name: texts(most) for name, most in lists.items()},
        "required": list(lists),
        "additionalProperties": False,
    }

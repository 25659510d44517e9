"""The small language of the generator: what an image can show, and captions for it.

A `Description` is what is rendered, and `caption` puts it into words. Attributes that a caption
does not mention have their defaults, which look like the real sample data: dark ink on white paper.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# The workflow's default template, so it is also the most frequent one in training.
DEFAULT_TEMPLATE = "a photo of a {}"
_TEMPLATES = {
    DEFAULT_TEMPLATE: 40,
    "a photo of a handwritten digit {}": 8,
    "a photo of a handwritten {}": 6,
    "a photo of the digit {}": 5,
    "a photo of the number {}": 4,
    "a handwritten {}": 6,
    "handwritten {}": 5,
    "a handwritten digit {}": 5,
    "handwritten digit {}": 4,
    "a picture of a {}": 3,
    "an image of a {}": 3,
    "a drawing of a {}": 2,
    "digit {}": 4,
    "the digit {}": 3,
    "the number {}": 3,
    "a {}": 5,
    "{}": 6,
}

PAPERS = {
    "white paper": (255, 255, 255),
    "yellow paper": (250, 224, 120),
    "pink paper": (247, 186, 200),
    "brown cardboard": (188, 145, 98),
}
BOARDS = {
    "a blackboard": (30, 32, 34),
    "a green board": (26, 84, 54),
    "a blueprint": (24, 62, 148),
}
INKS = {
    "black ink": (8, 8, 10),
    "blue ink": (24, 48, 176),
    "red ink": (196, 22, 30),
    "green ink": (16, 118, 48),
}
CHALKS = {
    "white chalk": (244, 244, 240),
    "yellow chalk": (248, 222, 92),
    "pink chalk": (246, 150, 176),
}
WEIGHTS = ("normal strokes", "bold strokes", "thin strokes")
TILTS = ("upright", "tilted left", "tilted right")

CONTEXTS = (*PAPERS, *BOARDS)
STROKES = (*INKS, *CHALKS)
_PLAIN = {"white paper", "black ink", "white chalk", "normal strokes", "upright"}

_SYNONYMS = {
    "a blackboard": ("a blackboard", "a black board", "a chalkboard"),
    "white chalk": ("white chalk", "chalk"),
    "bold strokes": ("bold strokes", "thick strokes", "bold"),
    "thin strokes": ("thin strokes", "fine strokes", "thin"),
    "tilted left": ("tilted left", "leaning left"),
    "tilted right": ("tilted right", "leaning right"),
    "brown cardboard": ("brown cardboard", "cardboard"),
}
# Words from prompts for large models. They change nothing in the training images, so the model
# learns to ignore them.
_FILLERS = (
    "high quality",
    "sharp focus",
    "close-up",
    "detailed",
    "soft light",
    "bright light",
    "studio lighting",
    "centered",
    "blurry",
    "low quality",
    "best quality",
    "realistic",
    "simple",
    "clean",
    "professional photo",
)


@dataclass(frozen=True)
class Description:
    """What one image shows. `digit` is 0..9, or None for a caption that only gives the style."""

    digit: int | None
    context: str = "white paper"
    stroke: str = "black ink"
    weight: str = "normal strokes"
    tilt: str = "upright"

    @property
    def is_plain(self) -> bool:
        """True if the image looks like the real sample data."""
        return self == Description(self.digit)


def default_stroke(context: str) -> str:
    return "white chalk" if context in BOARDS else "black ink"


def random_description(digit: int, rng: random.Random, *, plain_share: float = 0.5) -> Description:
    """A plain description with probability `plain_share`, otherwise random attributes."""
    if rng.random() < plain_share:
        return Description(digit)
    context = "white paper" if rng.random() < 0.3 else rng.choice(CONTEXTS)
    strokes = tuple(CHALKS if context in BOARDS else INKS)
    return Description(
        digit,
        context=context,
        stroke=default_stroke(context) if rng.random() < 0.4 else rng.choice(strokes),
        weight=rng.choices(WEIGHTS, (60, 20, 20))[0],
        tilt=rng.choices(TILTS, (70, 15, 15))[0],
    )


def caption(description: Description, rng: random.Random) -> str:
    """One of many captions for the description. Defaults are mostly not mentioned."""
    phrases = _style_phrases(description, rng)
    if rng.random() < 0.1:
        phrases.insert(rng.randint(0, len(phrases)), rng.choice(_FILLERS))
    if description.digit is not None:
        noun = rng.choice((str(description.digit), DIGIT_WORDS[description.digit]))
        template = rng.choices(tuple(_TEMPLATES), tuple(_TEMPLATES.values()))[0]
        phrases.insert(0, template.format(noun))
    return rng.choice((", ", ", ", ", ", " ")).join(phrases)


def _style_phrases(description: Description, rng: random.Random) -> list[str]:
    context = _said(description.context, rng)
    stroke = _said(description.stroke, rng)
    # "chalk" alone implies a blackboard, so the board may be omitted only if the stroke says chalk;
    # likewise, the white chalk of a board need not be mentioned.
    is_chalk_on_board = description.context == "a blackboard" and description.stroke in CHALKS
    if is_chalk_on_board and rng.random() < 0.25:
        context, stroke = None, stroke or rng.choice(_SYNONYMS["white chalk"])
    if context and stroke and rng.random() < 0.6:
        phrases = [f"{stroke} on {context}"]
    elif context:
        phrases = [rng.choice((f"on {context}", f"on {context}", context.removeprefix("a ")))]
        phrases += [stroke] if stroke else []
    else:
        phrases = [rng.choice((stroke, f"in {stroke}"))] if stroke else []
    phrases += [
        phrase
        for phrase in (_said(description.weight, rng), _said(description.tilt, rng))
        if phrase
    ]
    if rng.random() < 0.3:
        rng.shuffle(phrases)
    return phrases


def _said(attribute: str, rng: random.Random) -> str | None:
    """The words for an attribute, or None if a default is not mentioned."""
    if attribute in _PLAIN and rng.random() < 0.88:
        return None
    return rng.choice(_SYNONYMS.get(attribute, (attribute,)))

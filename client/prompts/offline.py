"""A bank without a language model: contexts and styles that suit any object, and dictionaries.

The phrases are ours. They are shared by all classes: what suits one class only, people add to the
bank by hand, or a model writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.banks.prompt_bank import ClassBank, Meaning, PromptBank
from comfy_nodes.language.wordnet import WordNet
from comfy_nodes.plan import ClassEntry

from ..errors import ClientError

PLACES = (
    "on a wooden floor",
    "on green grass",
    "against a plain grey wall",
    "in front of a brick wall",
    "on a sandy beach",
    "in fresh snow",
    "at the edge of a forest",
    "beside a lake",
    "on a busy street",
    "in a quiet garden",
    "on a gravel path",
    "in an empty room",
    "among rocks",
    "in tall dry grass",
    "on a stone terrace",
    "in a park with trees behind",
    "against a clear sky",
    "in a cluttered room",
    "on wet asphalt",
    "in a field with hills behind",
    "beside a white fence",
    "in the shade of a tree",
    "near a large window",
)
LIGHTS = (
    "in bright sunlight",
    "under an overcast sky",
    "in the warm light of evening",
    "in soft window light",
    "at night under a street lamp",
    "in morning mist",
    "with hard shadows",
    "lit from behind",
    "in the rain",
    "in flat indoor light",
    "in dappled shade",
)
CAMERAS = (
    "seen from the side",
    "seen from above",
    "seen from below",
    "seen from the front",
    "seen from behind",
    "close up",
    "from far away",
    "partly hidden by something in front",
    "cut off by the edge of the picture",
    "slightly out of focus",
    "small in the picture",
    "at an angle",
    "in motion",
)
STYLES = (
    "a photograph",
    "a black and white photograph",
    "an old faded photograph",
    "a snapshot taken with a phone",
    "a studio photograph",
    "a wide-angle photograph",
    "a grainy photograph",
    "a photograph with a flash",
    "an oil painting",
    "a watercolour",
    "a pencil drawing",
    "an ink drawing",
    "a charcoal sketch",
    "a pastel drawing",
    "a cartoon",
    "a comic",
    "a woodcut",
    "an etching",
    "a children's book illustration",
    "a poster",
    "a linocut",
    "a mosaic",
    "a 3D rendering",
    "a paper cut-out",
)
MOST_CONTEXTS = len(PLACES) * len(LIGHTS) * len(CAMERAS)


def contexts(count: int) -> tuple[str, ...]:
    """The first `count` contexts: every place, light and camera comes about equally often.

    The three lists have lengths without a common factor, so that walking through all three at once
    meets every combination before one comes again.
    """
    return tuple(
        f"{PLACES[number % len(PLACES)]}, {LIGHTS[number % len(LIGHTS)]}, "
        f"{CAMERAS[number % len(CAMERAS)]}"
        for number in range(count)
    )


def offline_bank(
    classes: Sequence[ClassEntry], *, contexts_each: int, styles_each: int, wordnet: Path | None
) -> PromptBank:
    """Shared contexts and styles; with WordNet, the meanings of every class name.

    A class with exactly one meaning gets it as its definition, unless it has one already.

    Raises:
        ClientError: more than there are.
        PlanError: `wordnet` is no folder of WordNet's database.
    """
    for name, asked, most in (
        ("contexts", contexts_each, MOST_CONTEXTS),
        ("styles", styles_each, len(STYLES)),
    ):
        if asked > most:
            raise ClientError(f"--{name} {asked}: the offline bank has {most}; ask for fewer")
    provenance: dict[str, Any] = {"made_by": "synthgrid bank --offline"}
    found = {entry.name: ClassBank(entry.definition) for entry in classes}
    if wordnet is not None:
        provenance["meanings"] = "WordNet"
        nouns = WordNet(wordnet)
        found = {entry.name: _with_meanings(entry, nouns) for entry in classes}
    return PromptBank(contexts(contexts_each), STYLES[:styles_each], found, provenance)


def _with_meanings(entry: ClassEntry, nouns: WordNet) -> ClassBank:
    meanings = tuple(Meaning(each.text, "WordNet") for each in nouns.senses(entry.name))
    only = meanings[0].text if len(meanings) == 1 else ""
    return ClassBank(entry.definition or only, meanings=meanings)

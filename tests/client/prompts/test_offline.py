"""Banks without a model: every combination once, and meanings from WordNet's files."""

import math

import pytest

from client.errors import ClientError
from client.prompts import offline
from client.prompts.offline import CAMERAS, LIGHTS, MOST_CONTEXTS, PLACES, STYLES, offline_bank
from comfy_nodes.banks.prompt_bank import bank_from_json, bank_text
from comfy_nodes.language.phrases import Filter
from comfy_nodes.plan import ClassEntry
from tests.wordnet_files import write_wordnet


@pytest.fixture
def wordnet(tmp_path):
    """A WordNet of two lemmas."""
    write_wordnet(
        tmp_path,
        {
            "lift": (["crane"], 'lifts heavy objects; "it turned"', []),
            "wader": (["crane"], "a large bird", []),
            "bear": (["polar bear"], "white bear of the Arctic", []),
        },
    )
    return tmp_path


def test_every_combination_comes_once():
    assert math.gcd(len(PLACES), len(LIGHTS)) == math.gcd(len(PLACES), len(CAMERAS)) == 1
    assert math.gcd(len(LIGHTS), len(CAMERAS)) == 1
    assert len(set(offline.contexts(MOST_CONTEXTS))) == MOST_CONTEXTS


def test_the_phrases_may_go_into_a_bank():
    chosen = Filter("", ())
    for phrase in (*offline.contexts(40), *STYLES):
        assert chosen.take(phrase), (phrase, chosen.dropped)


def test_the_bank_is_shared_and_keeps_given_definitions():
    classes = (ClassEntry("bat"), ClassEntry("crane", "a bird"))
    bank = offline_bank(classes, contexts_each=20, styles_each=8, wordnet=None)
    assert (len(bank.contexts), bank.styles) == (20, STYLES[:8])
    assert {name: each.definition for name, each in bank.classes.items()} == {
        "bat": "", "crane": "a bird",
    }  # fmt: skip
    assert bank_from_json(bank_text(bank)) == bank


def test_meanings_come_from_wordnet_and_one_meaning_is_the_definition(wordnet):
    classes = tuple(map(ClassEntry, ("crane", "Polar Bear", "xyz")))
    bank = offline_bank(classes, contexts_each=1, styles_each=1, wordnet=wordnet)
    crane, bear, unknown = bank.classes.values()
    assert [each.text for each in crane.meanings] == [
        "crane: lifts heavy objects", "crane: a large bird",
    ]  # fmt: skip
    assert crane.definition == ""
    assert bear.definition == "polar bear: white bear of the Arctic"
    assert unknown.meanings == ()


@pytest.mark.parametrize("asked", [{"contexts_each": MOST_CONTEXTS + 1}, {"styles_each": 25}])
def test_more_than_there_is_is_refused(asked):
    options = {"contexts_each": 1, "styles_each": 1} | asked
    with pytest.raises(ClientError, match="the offline bank has"):
        offline_bank((ClassEntry("bat"),), wordnet=None, **options)

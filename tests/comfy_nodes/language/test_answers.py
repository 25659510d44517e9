"""Texts of language models become banks, and what is no answer about the classes is refused."""

import json

import pytest

from comfy_nodes.banks.prompt_bank import ClassBank, Meaning
from comfy_nodes.errors import PlanError
from comfy_nodes.language.answers import NotAnswered, bank_from_text, read_answer
from comfy_nodes.plan import ClassEntry

CLASSES = (ClassEntry("bat", "a flying mammal"), ClassEntry("bee"))
BAT = {"meanings": ["a mammal"], "contexts": ["in a cave", "at dusk"], "styles": ["an etching"]}
BEE = {"meanings": ["an insect"], "contexts": ["on a flower"], "styles": []}


def read(text, classes=CLASSES):
    return bank_from_text(text, classes, {"made_by": "a test"})


def texts():
    bat, bee = json.dumps(BAT), json.dumps(BEE, indent=2)
    keyed = json.dumps({"bee": BEE, "bat": BAT})
    return {
        "one after the other": f"{bat}\n\n{bee}",
        "in fences, with words": f"For bat:\n```json\n{bat}\n```\nfor bee:\n```\n{bee}\n```\nDone.",
        "by name, in another order": keyed,
        "after thinking": f"<think>maybe {{contexts: bats}}\n{{</think>{keyed}",
    }


@pytest.mark.parametrize("text", texts().values(), ids=texts())
def test_answers_about_every_class_become_a_bank(text):
    bank, dropped = read(text)
    source = "the text"
    assert dict(bank.classes) == {
        "bat": ClassBank(
            "a flying mammal",
            ("in a cave", "at dusk"),
            ("an etching",),
            (Meaning("a mammal", source),),
        ),
        "bee": ClassBank("", ("on a flower",), (), (Meaning("an insect", source),)),
    }
    assert (bank.provenance, dropped) == ({"made_by": "a test"}, {})


def test_phrases_are_filtered_as_the_command_filters_them_and_counted():
    bat = BAT | {"contexts": ["in a cave", "in the cave.", "with a bee", "{red|blue}", 5]}
    bank, dropped = read(json.dumps({"bat": bat, "bee": BEE | {"styles": ["with a watermark"]}}))
    assert bank.classes["bat"].contexts == ("in a cave", "in the cave")
    assert dropped == {"names another class": 1, "special syntax": 1, "banned word": 1}


def test_a_whole_bank_is_kept_as_it_is():
    written = {"shared": {"styles": ["{red|blue} ink"]}, "classes": {"bat": {"definition": "a"}}}
    bank, dropped = read("Here:\n" + json.dumps(written))
    assert (bank.styles, bank.classes["bat"].definition, dropped) == (("{red|blue} ink",), "a", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I cannot help with that.", "no JSON object"),
        ("", "no JSON object"),
        ('{"bee": ' + json.dumps(BEE) + ', "bat": {"meanings": ["x', "line 1 .*cut off"),
        ("a set {x}\n" + json.dumps({"bat": BAT, "bee": BEE}), "line 1 .*not valid JSON"),
        (json.dumps(BAT), "1 answers for 2 classes"),
        (json.dumps(BAT) * 3, "3 answers for 2 classes"),
        (json.dumps({"bat": BAT}), "no answer for 'bee'"),
        (json.dumps({"bat": BAT, "bee": BEE, "cat": BEE}), "'cat', not among the classes"),
        (json.dumps({"bat": BAT, "bee": ["here"]}), "'bee' has not the lists"),
        (json.dumps({"bat": BAT, "bee": BEE | {"contexts": "here"}}), "'bee' has not the lists"),
        (json.dumps({"bat": BAT, "bee": BEE | {"contexts": ["a bat"]}}), "'bee': 1 names another"),
        (json.dumps({"bat": BAT, "bee": BEE | {"contexts": []}}), "'bee': its lists are empty"),
        (json.dumps({"classes": {"bat": {"context": []}}}), "unknown key context"),
        ('{"classes": {"bat": {}, "bat": {}}}', "the key bat twice"),
        (json.dumps({"classes": {"bat": {"contexts": ["{a|"]}}}), "the bank in the text, bat: "),
        ('{"a": ' * 100_000, "too deeply|not valid"),
    ],
)
def test_other_texts_are_refused_with_what_is_wrong(text, words):
    with pytest.raises(PlanError, match=words):
        read(text)


def test_one_class_needs_one_answer():
    bank, _ = read(json.dumps(BAT), CLASSES[:1])
    assert bank.classes["bat"].contexts == ("in a cave", "at dusk")


def test_an_answer_that_ended_early_is_none_even_if_it_is_json():
    assert read_answer(json.dumps(BAT), "stop")["contexts"] == BAT["contexts"]
    with pytest.raises(NotAnswered, match="cut off"):
        read_answer(json.dumps(BAT), "length")

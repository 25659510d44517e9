"""Prompt banks: read, written, and refused with the line or the key.

Covers: comfy_nodes.textfile.
"""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from comfy_nodes.banks import prompt_bank
from comfy_nodes.banks.prompt_bank import (
    ClassBank,
    Meaning,
    PromptBank,
    bank_from_json,
    bank_text,
    read_prompt_bank,
)
from comfy_nodes.errors import PlanError

SCHEMA = json.loads(
    (Path(prompt_bank.__file__).parent / "bank.schema.json").read_text(encoding="utf-8")
)
VALUE = {
    "shared": {"contexts": ["in the rain"], "styles": ["an etching"]},
    "classes": {
        "crane": {
            "meanings": [{"text": "a machine", "source": "WordNet"}, {"text": "a bird"}],
            "definition": "a large bird",
            "contexts": ["in a marsh", 'beside a "quoted" {sign|post}'],
            "styles": ["日本画"],
        },
        "bat": {},
    },
    "provenance": {"model": "m", "seed": 3},
}


def changed(*path_and_value):
    """VALUE with one value, given after the keys that lead to it, replaced or added."""
    value = copy.deepcopy(VALUE)
    *path, name, new = path_and_value
    place = value
    for each in path:
        place = place[each]
    place[name] = new
    return value


def test_a_bank_is_read_and_written_back_as_it_was(tmp_path):
    path = tmp_path / "bank.json"
    path.write_text(json.dumps(VALUE), encoding="utf-8-sig")
    bank = read_prompt_bank(path)
    assert bank.classes["crane"] == ClassBank(
        "a large bird",
        ("in a marsh", 'beside a "quoted" {sign|post}'),
        ("日本画",),
        (Meaning("a machine", "WordNet"), Meaning("a bird")),
    )
    assert bank.to_dict() == VALUE
    assert bank_from_json(bank_text(bank)) == bank


def test_everything_is_optional():
    assert bank_from_json("{}") == PromptBank()


def test_prompts_need_no_meanings_and_no_other_classes():
    bank = bank_from_json(json.dumps(VALUE))
    assert bank.per_class() == (("crane", bank.classes["crane"].for_prompts()),)
    assert bank.only({"bat"}).per_class() == ()
    assert bank.only({"crane"}).classes["crane"].meanings == ()
    assert (bank.only({"bat"}).contexts, bank.only({"bat"}).styles) == (
        ("in the rain",),
        ("an etching",),
    )


WRONG = [
    (changed("shared", "contexts", "x"), "shared.contexts must be a list"),
    (changed("shared", "contexts", ["a", 3]), r"shared\.contexts\[1\] must be one line of text"),
    (changed("shared", "styles", ["a\nb"]), r"shared\.styles\[0\] must be one line of text"),
    (changed("shared", "colours", []), "shared has the unknown key colours; known: contexts, "),
    (changed("extra", 1), "the top has the unknown key extra"),
    (changed("classes", "crane", "definition", " "), "classes.crane.definition must be one line"),
    (changed("classes", "crane", "meanings", [{"source": "x"}]), r"meanings\[0\]\.text must be"),
    (changed("classes", "crane", []), "classes.crane must be an object"),
    (changed("classes", "red crane", []), 'classes."red crane" must be an object'),
    (changed("classes", []), "classes must be an object"),
    (changed("provenance", []), "provenance must be an object"),
    ([], "the top must be an object"),
]


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named_by_its_key(value, message):
    with pytest.raises(PlanError, match=f"the bank: .*{message}"):
        bank_from_json(json.dumps(value))


def test_text_that_is_not_json_is_named_by_its_line(tmp_path):
    path = tmp_path / "bank.json"
    path.write_text('{\n "classes": {,}\n}')
    with pytest.raises(PlanError, match=r"bank .*bank\.json line 2 is not valid JSON"):
        read_prompt_bank(path)
    path.write_bytes(b'{\n"x": "\xff"}')
    with pytest.raises(PlanError, match=r"bank\.json line 2 is not UTF-8 text"):
        read_prompt_bank(path)
    with pytest.raises(PlanError, match=r"bank .*gone\.json does not exist; give a bank as a JSON"):
        read_prompt_bank(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"classes": {"bat": {}, "bat": {}}}', "has the key bat twice"),
        ('{"classes": {"bat": {"definition": "\\ud800"}}}', "not valid Unicode"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_hostile_texts_are_refused_in_words(text, message):
    with pytest.raises(PlanError, match=message):
        bank_from_json(text)


def test_a_long_key_is_not_repeated_whole():
    with pytest.raises(PlanError) as refused:
        bank_from_json(json.dumps({"x" * 10_000: 1}))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [VALUE, {}, *(value for value, _ in WRONG)])
def test_the_schema_agrees_with_the_reader(value):
    try:
        bank_from_json(json.dumps(value))
    except PlanError:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, SCHEMA)
    else:
        jsonschema.validate(value, SCHEMA)

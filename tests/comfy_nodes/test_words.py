"""The extension's texts in web/*.js, and web/zh.js, their Chinese translation."""

import re
from pathlib import Path

import comfy_nodes

WEB = Path(comfy_nodes.__file__).parent / comfy_nodes.WEB_DIRECTORY
TABLE = WEB / "zh.js"
CODE = "\n".join(path.read_text("utf-8") for path in WEB.glob("*.js") if path != TABLE)
TEXT = r'"((?:[^"\\\n]|\\.)*)"'
PAIR = re.compile(rf"{TEXT}:\s+{TEXT},")
CHINESE = dict(PAIR.findall(TABLE.read_text("utf-8")))


def test_the_table_has_nothing_but_pairs():
    left = PAIR.sub("", TABLE.read_text("utf-8"))
    assert re.sub(r"^//.*$", "", left, flags=re.MULTILINE).split() == [
        "export",
        "default",
        "{",
        "};",
    ]


def test_every_text_that_is_shown_is_translated():
    asked = set(re.findall(rf"\bt\(\s*{TEXT}", CODE))
    for pair in re.findall(rf"\bcounted\(\w+(?:\.\w+)*, {TEXT}, {TEXT}\)", CODE):
        asked |= set(pair)
    assert len(asked) > 50
    assert asked - set(CHINESE) == set()


def test_every_translation_is_of_a_text_that_is_shown():
    assert set(CHINESE) - set(re.findall(TEXT, CODE)) == set()


def test_a_translation_has_the_values_of_the_text():
    def values(words):
        return sorted(re.findall(r"\{\w+\}", words))

    assert {text: values(said) for text, said in CHINESE.items()} == {
        text: values(text) for text in CHINESE
    }


def test_no_text_is_shown_without_asking_for_its_translation():
    shown = re.findall(rf"\b(?:textContent|title|placeholder|tooltip)(?::| =) {TEXT}", CODE)
    shown += re.findall(rf"\b(?:say|button)\({TEXT}", CODE)
    assert [text for text in shown if re.search("[a-z]{2}", text.replace("\\u", ""))] == [
        "SynthGrid"
    ]

"""Each translation names every node, input and output as it is, and no other.

The frontend compiles the texts with vue-i18n, for which some characters are syntax: they are
written {'{'}, and a "{red|blue}" as it is keeps older frontends from starting at all.
The English file holds the nodes' own texts, for translators to start from; to write it anew:
python -m tests.comfy_nodes.test_locales
"""

import json
import re
from pathlib import Path

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

FOLDER = Path(__file__).resolve().parents[2] / "locales"
FILES = sorted(FOLDER.glob("*/nodeDefs.json"))
ENGLISH = FOLDER / "en" / "nodeDefs.json"


SYNTAX = "{}@$|"
LITERAL = re.compile(r"\{'[^']*'\}")


def english():
    """The texts of all nodes, as the frontend reads them."""
    return escaped({name: _texts(name, node) for name, node in NODE_CLASS_MAPPINGS.items()})


def escaped(value):
    if isinstance(value, dict):
        return {key: escaped(each) for key, each in value.items()}
    return re.sub(f"[{re.escape(SYNTAX)}]", lambda found: f"{{'{found[0]}'}}", value)


def _texts(name, node):
    declared = node.INPUT_TYPES()
    inputs = declared["required"] | declared.get("optional", {})
    tooltips = getattr(node, "OUTPUT_TOOLTIPS", ())  # a saver has no outputs
    outputs = zip(getattr(node, "RETURN_NAMES", ()), tooltips, strict=True)
    return {
        "display_name": NODE_DISPLAY_NAME_MAPPINGS[name],
        "description": node.DESCRIPTION,
        "inputs": {
            each: {"name": each, "tooltip": options["tooltip"]}
            for each, (_, options) in inputs.items()
        },
        "outputs": {
            str(slot): {"name": each, "tooltip": tooltip}
            for slot, (each, tooltip) in enumerate(outputs)
        },
    }


def test_there_is_a_chinese_translation():
    assert "zh" in {path.parent.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_no_text_has_syntax_of_the_frontends_messages(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        value = re.match(r'\s*"\w+": "(.*)",?$', line)
        if value:
            left = set(LITERAL.sub("", value[1])) & set(SYNTAX)
            assert not left, f"write {left} as {{'...'}}: {line.strip()}"


def test_the_english_file_holds_the_texts_of_the_nodes():
    written = json.loads(ENGLISH.read_text(encoding="utf-8"))
    assert written == english(), "write it anew: python -m tests.comfy_nodes.test_locales"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_a_translation_fits_the_nodes(path):
    translated = json.loads(path.read_text(encoding="utf-8"))
    assert set(translated) == set(NODE_CLASS_MAPPINGS)
    for name, node in NODE_CLASS_MAPPINGS.items():
        texts, declared = translated[name], node.INPUT_TYPES()
        assert texts["display_name"].startswith("SynthGrid ")
        assert texts["description"].strip()
        assert list(texts["inputs"]) == [*declared["required"], *declared.get("optional", {})]
        assert list(texts["outputs"]) == [str(slot) for slot in range(len(node.RETURN_TYPES))]
        for each in (*texts["inputs"].values(), *texts["outputs"].values()):
            assert each["name"].strip()
            assert each["tooltip"].strip()


if __name__ == "__main__":
    ENGLISH.parent.mkdir(exist_ok=True)
    text = json.dumps(english(), indent=2, ensure_ascii=False)
    ENGLISH.write_text(text + "\n", encoding="utf-8")

"""Each translation names every node, input and output as it is, and no other."""

import json
from pathlib import Path

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS

FILES = sorted((Path(__file__).resolve().parents[2] / "locales").glob("*/nodeDefs.json"))


def test_there_is_a_chinese_translation():
    assert "zh" in {path.parent.name for path in FILES}


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

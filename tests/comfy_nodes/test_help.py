"""Every node has a help page, and the page knows the node as it is."""

import re
from pathlib import Path

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

FOLDER = Path(__file__).resolve().parents[2] / "comfy_nodes" / "web" / "docs"


def page(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def section(text, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL).group(1)


def listed(text):
    """The names that the tables of a section explain."""
    return re.findall(r"^\| `(\w+)` \| \S", text, re.MULTILINE)


def test_there_is_one_page_per_node_and_no_other():
    assert {path.stem for path in FOLDER.iterdir()} == set(NODE_CLASS_MAPPINGS)


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_page_explains_every_input_and_output_and_no_other(name):
    node = NODE_CLASS_MAPPINGS[name]
    declared = node.INPUT_TYPES()
    assert listed(section(page(name), "Inputs")) == [
        *declared["required"],
        *declared.get("optional", {}),
    ]
    assert listed(section(page(name), "Outputs")) == list(getattr(node, "RETURN_NAMES", ()))


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_page_has_title_example_and_mistakes(name):
    assert page(name).startswith(f"# {NODE_DISPLAY_NAME_MAPPINGS[name]}\n")
    assert section(page(name), "Example").strip()
    assert section(page(name), "Common mistakes").count("- **") >= 2

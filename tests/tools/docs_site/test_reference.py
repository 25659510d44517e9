"""The reference pages hold everything that the code has, as it is."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from functools import cache

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS
from comfy_nodes.labelset import ImageRecord
from synthgrid.__main__ import GROUPS
from tools.docs_site import reference

PAGES = cache(reference.pages)


def page(name: str) -> str:
    return PAGES()[f"reference/{name}.md"]


@pytest.mark.parametrize("name", [name for group in GROUPS.values() for name in group])
def test_every_command_has_its_help(name: str) -> None:
    section = page("commands").split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert f"usage: synthgrid {name}" in section
    shown = {
        option
        for action in reference.command_parser(name)._actions
        for option in action.option_strings
        if action.help != argparse.SUPPRESS
    }
    assert shown <= set(re.findall(r"-{1,2}[a-z][\w-]*", section))


def test_help_is_the_same_on_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference.command_help("plan")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.command_help("plan") == before
    assert "\x1b" not in before


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_every_node_has_every_input_with_its_default(name: str) -> None:
    section = page("nodes").split(f"`{name}`.\n")[1].split("\nIts name in a graph")[0]
    declared = NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
    for group in ("required", "optional"):
        for each in declared.get(group, {}):
            assert re.search(rf"^\| `{each}`", section, re.MULTILINE), each
    assert "### Example" in section


def test_a_table_cell_is_one_line_and_has_no_markup_of_its_own() -> None:
    assert reference._row("a | b", "<b>\nc") == "| a \\| b | &lt;b> c |"


def test_the_record_is_described_field_by_field() -> None:
    section = page("formats").split("## An image's record")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [
        each.name for each in dataclasses.fields(ImageRecord)
    ]


@pytest.mark.parametrize("module", ["client", "comfy_nodes.plan", "comfy_nodes.labelset"])
def test_the_python_api_names_what_a_module_exports(module: str) -> None:
    names = importlib.import_module(module).__all__
    expected = [each for each in names if not each.isupper()]
    assert reference.exported(module) == expected
    assert all(f"::: {module}.{each}\n" in page("python") for each in expected)

"""The reference pages, from the code itself: commands, nodes, JSON formats and the Python API.

Each page is Markdown text. Commands come from their parsers, nodes from NODE_CLASS_MAPPINGS, JSON
formats from the dataclasses and the schema that read and write them. For the Python API a page
names modules, and mkdocstrings fills in their docstrings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from synthgrid.__main__ import GROUPS, build_parser

ROOT = Path(__file__).resolve().parents[2]
WIDTH = "92"  # characters, of a command's help
# Module -> what it is for. Each has __all__, which is what its page shows.
MODULES = {
    "client": "Make images: workflows, servers, runs.",
    "comfy_nodes.plan": "Plans: classes, templates, and the prompt of every image.",
    "comfy_nodes.labelset": "Read and write labelled folders.",
    "trainer.config": "What a grid and a run are asked to do.",
    "trainer.data": "Read class folders.",
    "trainer.analysis": "Read the results of a grid.",
    "trainer.report": "Write a grid's report.",
}


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown of each generated page."""
    return {
        "reference/commands.md": "\n".join(_commands()),
        "reference/nodes.md": "\n".join(_nodes()),
        "reference/formats.md": "\n".join(_formats()),
        "reference/python.md": "\n".join(_python()),
    }


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "What `synthgrid COMMAND --help` prints, for every command.\n"
    for title, commands in GROUPS.items():
        yield f"**{title[0].upper()}{title[1:]}:** " + ", ".join(
            f"[{name}](#{name})" for name in commands
        )
        yield ""
    for commands in GROUPS.values():
        for name, line in commands.items():
            yield f"## {name}\n\n{line[0].upper()}{line[1:]}.\n"
            yield f"```text\n{command_help(name)}```\n"


def command_help(name: str) -> str:
    """What `synthgrid NAME --help` prints, without colours."""
    with mock.patch.dict(os.environ, {"COLUMNS": WIDTH, "NO_COLOR": "1"}):
        return command_parser(name).format_help()


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = build_parser([name])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: argparse.ArgumentParser = action.choices[name]
            return found
    raise LookupError(name)


def _nodes() -> Iterator[str]:
    yield "# Nodes\n"
    yield "The same pages open in ComfyUI: select a node and press its info button.\n"
    for name, node in NODE_CLASS_MAPPINGS.items():
        page = (ROOT / "comfy_nodes/web/docs" / f"{name}.md").read_text(encoding="utf-8")
        _, _, text = page.partition("\n")
        example = re.search(r"^## Example\n.*", text, re.MULTILINE | re.DOTALL)
        yield f"## {NODE_DISPLAY_NAME_MAPPINGS[name]}\n"
        yield f"{node.DESCRIPTION}\n\nIts name in a graph is `{name}`.\n"
        yield from _inputs(node.INPUT_TYPES())
        yield from _outputs(node)
        yield re.sub(r"^##", "###", example.group(), flags=re.MULTILINE) if example else ""


def _inputs(declared: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "### Inputs\n\n| input | type | default | what it is |\n| --- | --- | --- | --- |"
    for group in ("required", "optional"):
        for name, (kind, *rest) in declared.get(group, {}).items():
            options = rest[0] if rest else {}
            shown = kind if isinstance(kind, str) else ", ".join(map(str, kind))
            default = json.dumps(options["default"]) if "default" in options else ""
            yield _row(
                f"`{name}`" + ("" if group == "required" else " (optional)"),
                shown,
                f"`{default}`" if default else "",
                options.get("tooltip", ""),
            )
    yield ""


def _outputs(node: Any) -> Iterator[str]:
    names = getattr(node, "RETURN_NAMES", ())
    if names:
        yield "### Outputs\n\n| output | type | what it is |\n| --- | --- | --- |"
        for each in zip(names, node.RETURN_TYPES, node.OUTPUT_TOOLTIPS, strict=True):
            yield _row(f"`{each[0]}`", *each[1:])
        yield ""


def _row(*cells: object) -> str:
    texts = (str(each).replace("|", "\\|").replace("<", "&lt;") for each in cells)
    return "| " + " | ".join(" ".join(each.split()) for each in texts) + " |"


def _formats() -> Iterator[str]:
    from comfy_nodes.labelset import ImageRecord
    from trainer.config import GridConfig, RunConfig, TrainingConfig

    yield "# JSON formats\n"
    yield "A run's events are described in [Events of a run](json-events.md), and the fields"
    yield "of a record at length in [What a record holds](records.md).\n"
    yield from _fields("An image's record", "`metadata.jsonl`, one line per image", ImageRecord)
    yield from _fields("A grid", "what `synthgrid grid` is asked to do", GridConfig)
    yield from _fields("A run", "`config.json` in a run's folder", RunConfig)
    yield from _fields("A training", "the hyper-parameters in a run", TrainingConfig)
    schema = (ROOT / "comfy_nodes/banks/bank.schema.json").read_text(encoding="utf-8")
    yield "## A prompt bank\n\nThe file of `--bank`, as a JSON schema.\n"
    yield f"```json\n{schema.strip()}\n```"


def _fields(title: str, where: str, described: Any) -> Iterator[str]:
    yield f"## {title}\n\n{where[0].upper() + where[1:]}.\n"
    yield "| field | type | default |\n| --- | --- | --- |"
    for each in dataclasses.fields(described):
        yield _row(f"`{each.name}`", f"`{each.type}`".replace("|", "or"), _default(each))
    yield ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "must be given"


def _python() -> Iterator[str]:
    yield "# Python API\n"
    yield "What these packages export. Other names may change without notice.\n"
    for module, purpose in MODULES.items():
        yield f"## {module}\n\n{purpose}\n"
        for name in exported(module):
            yield f"::: {module}.{name}\n"


def exported(module: str) -> list[str]:
    """The functions and classes that a module of `MODULES` exports; constants are left out."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    listed = re.search(r"__all__ = \[(.*?)\]", file.read_text(encoding="utf-8"), re.DOTALL)
    names = re.findall(r'"(\w+)"', listed.group(1)) if listed else []
    return [name for name in names if not name.isupper()]

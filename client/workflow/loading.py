"""Workflows from files of either format, for a server or, for their plan, without one.

workflow, notes = load_for(path, server.object_info, server.node_replacements)
workflow = load_for_plan(path, ours)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ServerError
from .convert import ObjectInfo, convert, is_editor_format, no_replacements
from .convert.replacements import Replacements, in_current_classes, may_be_renamed
from .graph import Workflow, parse_workflow, read_json


def load_for(
    path: Path | str,
    object_info: ObjectInfo | Callable[[], ObjectInfo],
    replacements: Callable[[], Replacements] = no_replacements,
) -> tuple[Workflow, tuple[str, ...]]:
    """The workflow in a file of either format, and notes on what was left out or renamed.

    `object_info` is the server's, or a function that gets it: called for files in editor format,
    and in API format if they have a class that may have another name today. `replacements` gets
    its /node_replacements: called only if it lacks a class.

    Raises:
        WorkflowError: the file cannot be read, is not a workflow, or cannot be converted for this
            server.
        ServerError: a file in editor format, and no server answers.
    """
    value = read_json(Path(path))

    def info() -> ObjectInfo:
        return object_info() if callable(object_info) else object_info

    if not is_editor_format(value):
        return _renamed(parse_workflow(value, source=str(path)), info, replacements)
    converted = convert(value, info(), source=str(path), replacements=replacements)
    return parse_workflow(converted.graph, source=str(path)), converted.notes


def _renamed(
    workflow: Workflow, info: Callable[[], ObjectInfo], replacements: Callable[[], Replacements]
) -> tuple[Workflow, tuple[str, ...]]:
    """A workflow in API format with today's classes; as it is if no server answers."""
    if not may_be_renamed(workflow.graph):
        return workflow, ()
    try:
        graph, notes = in_current_classes(workflow.graph, info(), replacements)
    except ServerError:
        return workflow, ()
    return Workflow(graph, workflow.source), tuple(notes)


def load_for_plan(path: Path | str, ours: Mapping[str, Any]) -> Workflow:
    """The workflow in a file; `ours` is the part of /object_info that describes SynthGrid's nodes.

    Of other nodes only the links are known, so the result can be planned, but not run.

    Raises:
        WorkflowError: the file cannot be read or is not a workflow.
    """
    value = read_json(Path(path))
    if not is_editor_format(value):
        return parse_workflow(value, source=str(path))
    others: dict[str, Any] = {kind: {"input": {}} for kind in _kinds(value)}
    return parse_workflow(
        convert(value, {**others, **ours}, source=str(path)).graph, source=str(path)
    )


def _kinds(value: Mapping[str, Any]) -> Iterator[str]:
    """The classes of all nodes, inside subgraphs too."""
    definitions = value.get("definitions")
    inner = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    for graph in (value, *(inner if isinstance(inner, list) else ())):
        for node in graph["nodes"] if is_editor_format(graph) else ():
            if isinstance(node, Mapping) and isinstance(node.get("type"), str):
                yield node["type"]

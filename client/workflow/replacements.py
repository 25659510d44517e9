"""Node classes that got another name since a workflow was saved, in editor format. No I/O.

    value, notes = with_current_classes(value, object_info, server.node_replacements)

Newer servers list at GET /node_replacements which class stands for an older one, and what its
inputs are called there. Some old names differ in a space at their end only; those need no list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from .editor import is_editor_format, shown

Replacements: TypeAlias = Mapping[str, Any]


def with_current_classes(
    value: Any,
    object_info: Mapping[str, Any],
    replacements: Callable[[], Replacements],
    *,
    of_the_editor: Collection[str] = (),
) -> tuple[Any, list[str]]:
    """A parsed workflow with the classes that this server has, and a note for each that changed.

    `replacements` is called only if a class is missing that is not `of_the_editor`. What has no
    replacement stays as it is.
    """
    definitions = value.get("definitions") if isinstance(value, dict) else None
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = subgraphs if isinstance(subgraphs, list) else []
    present = {*object_info, *of_the_editor}
    present |= {str(each.get("id")) for each in subgraphs if isinstance(each, dict)}
    known = cache(replacements)
    rule_of = cache(lambda kind: _rule(kind, object_info, known()))
    notes: list[str] = []

    def renewed(graph: Any) -> Any:
        if not is_editor_format(graph):
            return graph
        return graph | {"nodes": [current(node) for node in graph["nodes"]]}

    def current(node: Any) -> Any:
        kind = node.get("type") if isinstance(node, dict) else None
        if not isinstance(kind, str) or kind in present:
            return node
        rule = rule_of(kind)
        if rule is None:
            return node
        name = rule["new_node_id"]
        if name.strip() != kind.strip():
            node_id = shown(str(node.get("id")))
            notes.append(f"node {node_id}: '{shown(kind)}' is called '{shown(name)}' today")
        return _renamed(node, rule) | {"type": name}

    found = renewed(value)
    if isinstance(definitions, dict) and subgraphs and is_editor_format(value):
        found |= {"definitions": definitions | {"subgraphs": [renewed(each) for each in subgraphs]}}
    return found, list(dict.fromkeys(notes))


def _rule(
    kind: str, object_info: Mapping[str, Any], replacements: Replacements
) -> Mapping[str, Any] | None:
    """The first replacement of a class, if the server has it and its outputs stay in order."""
    listed = replacements.get(kind)
    rule = listed[0] if isinstance(listed, list) and listed else None
    if isinstance(rule, Mapping):
        outputs = _entries(rule.get("output_mapping"))
        moved = any(each.get("old_idx") != each.get("new_idx") for each in outputs)
        if not moved and _is_known(rule.get("new_node_id"), object_info):
            return rule
    same = next((name for name in object_info if name.strip() == kind.strip()), None)
    return None if same is None else {"new_node_id": same}


def _is_known(name: Any, object_info: Mapping[str, Any]) -> bool:
    return isinstance(name, str) and name in object_info


def _entries(listed: Any) -> list[Mapping[str, Any]]:
    entries = listed if isinstance(listed, list) else []
    return [each for each in entries if isinstance(each, Mapping)]


def _renamed(node: dict[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    """A node with the inputs and widget values of its new class, by name."""
    mapping = [each for each in _entries(rule.get("input_mapping")) if "new_id" in each]
    if not mapping:
        return node
    names = {str(each["old_id"]): str(each["new_id"]) for each in mapping if "old_id" in each}
    slots = _entries(node.get("inputs"))
    values = {str(each["new_id"]): each["set_value"] for each in mapping if "set_value" in each}
    for old, value in _saved(node, rule, names, slots):
        if old in names:
            values[names[old]] = value
    return node | {"inputs": list(_renamed_slots(slots, names)), "widgets_values": values}


def _saved(
    node: dict[str, Any],
    rule: Mapping[str, Any],
    names: Mapping[str, str],
    slots: list[Mapping[str, Any]],
) -> Iterator[tuple[str, Any]]:
    """(old widget, value), where the file or the rule tells which widget a value belongs to."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        yield from values.items()
    elif isinstance(values, list):
        sockets = {slot.get("name") for slot in slots if not slot.get("widget")}
        listed = rule.get("old_widget_ids")
        old = [each for each in names if each not in sockets]
        old = listed if isinstance(listed, list) else old
        yield from zip(map(str, old), values, strict=False)


def _renamed_slots(
    slots: list[Mapping[str, Any]], names: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for slot in slots:
        name = names.get(str(slot.get("name")))
        if name is not None:
            widget = {"widget": {"name": name}} if slot.get("widget") else {}
            yield {**slot, "name": name, **widget}

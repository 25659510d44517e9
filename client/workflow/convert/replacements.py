"""Node classes that got another name since a workflow was saved. No I/O.

    value, notes = with_current_classes(value, object_info, server.node_replacements)  # editor
    graph, notes = in_current_classes(graph, object_info, server.node_replacements)    # API

Newer servers list at GET /node_replacements which class stands for an older one, and what its
inputs are called there. Some old names differ in a space at their end only; those need no list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from .editor import is_editor_format, shown

Replacements: TypeAlias = Mapping[str, Any]
# The classes of common workflows, which have kept their names; a file with no others is not looked
# into any further. With SynthGrid's own.
_KEPT = {
    "CheckpointLoaderSimple", "VAELoader", "CLIPLoader", "LoraLoader", "LoraLoaderModelOnly",
    "ControlNetLoader", "CLIPTextEncode", "CLIPSetLastLayer", "ControlNetApplyAdvanced",
    "EmptyLatentImage", "LatentUpscale", "LatentUpscaleBy", "LoadImage", "VAEEncode", "VAEDecode",
    "KSampler", "KSamplerAdvanced", "KSamplerSelect", "BasicScheduler", "CFGGuider",
    "SamplerCustomAdvanced", "RandomNoise", "SaveImage", "PreviewImage",
}  # fmt: skip
_OURS = "SynthGrid"


def may_be_renamed(graph: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a graph in API format has a class that a newer server may call otherwise."""
    kinds = {node["class_type"] for node in graph.values()}
    return any(not kind.startswith(_OURS) for kind in kinds - _KEPT)


def in_current_classes(
    graph: Mapping[str, Mapping[str, Any]],
    object_info: Mapping[str, Any],
    replacements: Callable[[], Replacements],
) -> tuple[dict[str, Any], list[str]]:
    """A graph in API format with this server's classes, and a note for each that changed.

    `replacements` is called only if a class is missing. What has no replacement stays as it is.
    """
    known = cache(replacements)
    rule_of = cache(lambda kind: _rule(kind, object_info, known()))
    found: dict[str, Any] = {}
    notes = []
    for node_id, node in graph.items():
        kind = node["class_type"]
        rule = None if kind in object_info else rule_of(kind)
        if rule is None:
            found[node_id] = node
            continue
        name = rule["new_node_id"]
        found[node_id] = {**node, "class_type": name, "inputs": _renamed_inputs(node, rule)}
        if name.strip() != kind.strip():
            notes.append(f"node {node_id}: '{shown(kind)}' is called '{shown(name)}' today")
    return found, notes


def _renamed_inputs(node: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of the new class, as the server itself would rename them."""
    mapping = [each for each in _entries(rule.get("input_mapping")) if "new_id" in each]
    if not mapping:
        return dict(node["inputs"])
    inputs = {}
    for each in mapping:
        if "set_value" in each:
            inputs[str(each["new_id"])] = each["set_value"]
        elif (old := str(each.get("old_id"))) in node["inputs"]:
            inputs[str(each["new_id"])] = node["inputs"][old]
    return inputs


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
    extra = value.get("extra") if isinstance(value, dict) else None
    if isinstance(extra, dict) and isinstance(groups := extra.get("groupNodes"), dict):
        renewed_groups = {name: renewed(each) for name, each in groups.items()}
        found |= {"extra": extra | {"groupNodes": renewed_groups}}
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

"""Nodes that cannot run because a node before them is muted: left out, as a server would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..api_graph import is_link
from .editor import shown


def without_dependents(
    graph: dict[str, Any], lost: Mapping[tuple[str, str], str], info: Mapping[str, Any]
) -> list[str]:
    """Removes the nodes that lack a required input because of a muted node; a note for each."""
    notes = []
    waiting = [(node_id, name) for node_id, name in lost if _requires(graph[node_id], name, info)]
    while waiting:
        node_id, name = waiting.pop()
        node = graph.pop(node_id, None)
        if node is None:
            continue
        notes.append(
            f"node {node_id} '{shown(node['_meta']['title'])}' is left out: "
            f"nothing comes to its '{name}'; what should feed it is muted, bypassed or missing"
        )
        for other_id, other in graph.items():
            for key in [
                key
                for key, value in other["inputs"].items()
                if is_link(value) and value[0] == node_id
            ]:
                del other["inputs"][key]
                if _requires(other, key, info):
                    waiting.append((other_id, key))
    return sorted(notes)


def _requires(node: Mapping[str, Any], name: str, info: Mapping[str, Any]) -> bool:
    described = info[node["class_type"]]
    groups = described.get("input") if isinstance(described, Mapping) else None
    required = groups.get("required") if isinstance(groups, Mapping) else None
    return isinstance(required, Mapping) and name in required

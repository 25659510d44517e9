"""Widgets of nodes inside a subgraph that its own node shows, and their typed-in values. No I/O.

There are two spellings. Editors since 2026 connect such a widget to an input of the subgraph and
save its value at the subgraph's node, by the input's position. Older ones list (node id inside,
widget) in the property "proxyWidgets".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .editor import PRIMITIVE, EditorGraph, EditorNode, Slot
from .widgets import Shape

THE_SUBGRAPH = "-1"  # node id in "proxyWidgets" for an input of the subgraph itself


class Promoted:
    """The values at the subgraphs' nodes; `shape` gives the widgets of a server's node class."""

    def __init__(
        self, subgraphs: Mapping[str, EditorGraph], shape: Callable[[EditorNode], Shape]
    ) -> None:
        self._subgraphs = subgraphs
        self._shape = shape

    def at(
        self, host: EditorNode, around: Mapping[tuple[str, str], Any]
    ) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
        """The values at one node: (subgraph inputs by name, widgets inside by (node id, widget)).

        `around` is the second of these for the graph that contains `host`, and overrides what is
        saved at `host`.
        """
        typed = self._saved_at(host)
        inside: dict[tuple[str, str], Any] = {}
        values = host.values if isinstance(host.values, list) else []
        for (node_id, widget), value in zip(_proxies(host), values, strict=False):
            if value is not None:
                self._put(host, node_id, widget, value, typed, inside)
        for (node_id, widget), value in around.items():
            if node_id != host.id:
                continue
            if widget in self._subgraphs[host.type].inputs:
                typed[widget] = value
            for source, name in _proxies(host):
                if name == widget:
                    self._put(host, source, name, value, typed, inside)
        return typed, inside

    def _put(
        self,
        host: EditorNode,
        node_id: str,
        widget: str,
        value: Any,
        typed: dict[str, Any],
        inside: dict[tuple[str, str], Any],
    ) -> None:
        """Notes a value for a widget inside, through the subgraph input connected to it, if any."""
        inner = self._subgraphs[host.type]
        linked = (
            name
            for name, node, slot in self._inputs(inner)
            if (node.id, slot.widget or slot.name) == (node_id, widget)
        )
        name = widget if node_id == THE_SUBGRAPH else next(linked, None)
        source = inner.nodes.get(node_id)
        if name is not None:
            typed[name] = value
        elif source is not None and source.type == PRIMITIVE:
            inside.update((place, value) for place in primitive_targets(inner, source))
        elif source is not None:
            inside[node_id, widget] = value

    def _saved_at(self, host: EditorNode) -> dict[str, Any]:
        """Values of the inputs shown as widgets: saved at the node, or of the widgets inside."""
        found: dict[str, Any] = {}
        for number, (name, node, slot) in enumerate(self._inputs(self._subgraphs[host.type])):
            if isinstance(host.values, list) and number < len(host.values):
                found[name] = host.values[number]
            elif isinstance(host.values, dict) and name in host.values:
                found[name] = host.values[name]
            elif node.type in self._subgraphs:
                nested = self._saved_at(node)
                if slot.name in nested:
                    found[name] = nested[slot.name]
            elif slot.widget in (widgets := self._shape(node).widgets):
                found[name] = widgets[slot.widget or ""].value
        return found

    def _inputs(self, inner: EditorGraph, depth: int = 0) -> list[tuple[str, EditorNode, Slot]]:
        """(name, node inside, its input) of the subgraph inputs that its node shows as widgets."""
        found = []
        for name, links in zip(inner.inputs, inner.input_links, strict=True):
            ends = (inner.slot_of(link_id) for link_id in links)
            shown = (
                end
                for end in ends
                if end is not None and (end[1].widget or self._is_shown(*end, depth))
            )
            end = next(shown, None)
            if end is not None:
                found.append((name, *end))
        return found

    def _is_shown(self, node: EditorNode, slot: Slot, depth: int) -> bool:
        nested = self._subgraphs.get(node.type)
        if nested is None or depth > len(self._subgraphs):
            return False
        return any(name == slot.name for name, _, _ in self._inputs(nested, depth + 1))


def primitive_targets(graph: EditorGraph, node: EditorNode) -> Iterator[tuple[str, str]]:
    """(node id, widget) of the widgets that a primitive node sets."""
    for link_id, link in graph.links.items():
        end = graph.slot_of(link_id)
        if link.origin == node.id and end is not None and end[1].widget:
            yield end[0].id, end[1].widget


def _proxies(host: EditorNode) -> list[tuple[str, str]]:
    listed = host.properties.get("proxyWidgets")
    rows = listed if isinstance(listed, list) else []
    return [(str(row[0]), str(row[1])) for row in rows if isinstance(row, list) and len(row) > 1]

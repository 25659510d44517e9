"""ComfyUI's editor format as values: nodes, links and subgraphs of a saved workflow. No I/O.

    workflow = parse_editor(json.loads(text), source="w.json")
    workflow.root.nodes["3"].inputs[0].link

Both forms of links are read: lists (schema 0.4) and objects (schema 1, and inside subgraphs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import WorkflowError

MUTED, BYPASSED = 2, 4  # values of a node's `mode`; all others run
PRIMITIVE = "PrimitiveNode"  # a node of the editor that types a value into other nodes' widgets
NOTES = {"Note", "MarkdownNote"}
MOST_NODES = 20_000  # nested subgraphs multiply; no server accepts a graph of this size
REROUTE = "Reroute"  # a node of the editor that passes its input on
# The ids that links inside a subgraph use for its own inputs and outputs.
FROM_OUTSIDE, TO_OUTSIDE = "-10", "-20"


@dataclass(frozen=True)
class Slot:
    """An input of a node. `widget` is the name of its widget; None if it is only a socket.

    `label` is what the user calls it; "" if not renamed.
    """

    name: str
    type: str
    link: str | None = None
    widget: str | None = None
    label: str = ""


@dataclass(frozen=True)
class Link:
    """From output number `slot` of node `origin`."""

    origin: str
    slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, eq=False)
class EditorNode:
    """A node as saved. `values` are those of its widgets, by position or by name.

    Two nodes are equal only if they are the same object.
    """

    id: str
    type: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[str, ...]
    values: list[Any] | dict[str, Any] | None
    properties: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For messages: "node 4 'Load Checkpoint'"."""
        return f"node {self.id} '{shown(self.title or self.type)}'"


def too_large(source: str) -> WorkflowError:
    """The error for a file that grows beyond MOST_NODES."""
    return WorkflowError(f"{source} has more than {MOST_NODES} nodes, subgraphs expanded; split it")


def shown(text: str) -> str:
    """A title or name in one line of a message, however long it is."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class EditorGraph:
    """Nodes and links by id. A subgraph also has a name, input names and a link per output."""

    nodes: Mapping[str, EditorNode]
    links: Mapping[str, Link]
    name: str = ""
    inputs: tuple[str, ...] = ()
    input_links: tuple[tuple[str, ...], ...] = ()
    output_links: tuple[str | None, ...] = ()

    def slot_of(self, link_id: str) -> tuple[EditorNode, Slot] | None:
        """The node and input that a link leads to."""
        return self._ends.get(link_id)

    @cached_property
    def _ends(self) -> dict[str, tuple[EditorNode, Slot]]:
        return {
            slot.link: (node, slot)
            for node in self.nodes.values()
            for slot in node.inputs
            if slot.link is not None
        }


@dataclass(frozen=True)
class EditorWorkflow:
    """The root graph, and the definitions of its subgraphs by id."""

    root: EditorGraph
    subgraphs: Mapping[str, EditorGraph]


def is_editor_format(value: Any) -> bool:
    """Whether a parsed JSON value is a workflow as ComfyUI saves it, not as it queues it."""
    return isinstance(value, dict) and isinstance(value.get("nodes"), list)


def parse_editor(value: Any, *, source: str = "workflow") -> EditorWorkflow:
    """The workflow in a parsed JSON value.

    Raises:
        WorkflowError: not what ComfyUI saves; the message names the first thing that is wrong.
    """
    if not is_editor_format(value):
        raise WorkflowError(
            f"{source} is not a workflow in editor format; expected an object with a list of nodes"
        )
    definitions = value.get("definitions")
    found = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {}
    for each in found if isinstance(found, list) else []:
        if not isinstance(each, dict) or not isinstance(each.get("nodes"), list):
            raise WorkflowError(
                f"{source}: a subgraph definition is not an object with a list of nodes"
            )
        subgraphs[str(each.get("id"))] = _graph(
            each, f"{source}: subgraph '{shown(str(each.get('name')))}'"
        )
    return EditorWorkflow(_graph(value, source), subgraphs)


def _graph(value: Mapping[str, Any], source: str) -> EditorGraph:
    nodes = {}
    for each in value["nodes"]:
        node = _node(each, source)
        if node.id in nodes:
            raise WorkflowError(f"{source}: two nodes have the id {node.id}")
        nodes[node.id] = node
    links = dict(_links(value.get("links"), source))
    return EditorGraph(
        nodes,
        links,
        name=str(value.get("name") or ""),
        inputs=tuple(str(each.get("name")) for each in _objects(value.get("inputs"))),
        input_links=tuple(_link_ids(each) for each in _objects(value.get("inputs"))),
        output_links=tuple(_output_links(value, links)),
    )


def _output_links(value: Mapping[str, Any], links: Mapping[str, Link]) -> Iterator[str | None]:
    for number, each in enumerate(_objects(value.get("outputs"))):
        listed = [link for link in _link_ids(each) if link in links]
        found = (
            key
            for key, link in links.items()
            if link.target == TO_OUTSIDE and link.target_slot == number
        )
        yield listed[0] if listed else next(found, None)


def _link_ids(slot: Mapping[str, Any]) -> tuple[str, ...]:
    ids = slot.get("linkIds")
    return tuple(map(str, ids)) if isinstance(ids, list) else ()


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _node(value: Any, source: str) -> EditorNode:
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("type"), str)
        or not _is_id(value.get("id"))
    ):
        raise WorkflowError(
            f"{source}: an entry of its nodes has no id and type: {str(value)[:80]}"
        )
    values, properties = value.get("widgets_values"), value.get("properties")
    return EditorNode(
        id=str(value["id"]),
        type=value["type"],
        mode=value["mode"] if isinstance(value.get("mode"), int) else 0,
        title=value["title"] if isinstance(value.get("title"), str) else "",
        inputs=tuple(_slot(each) for each in _objects(value.get("inputs"))),
        outputs=tuple(_type(each.get("type")) for each in _objects(value.get("outputs"))),
        values=values if isinstance(values, (list, dict)) else None,
        properties=properties if isinstance(properties, dict) else {},
    )


def _slot(value: Mapping[str, Any]) -> Slot:
    link, widget = value.get("link"), value.get("widget")
    return Slot(
        name=str(value.get("name", "")),
        type=_type(value.get("type")),
        link=str(link) if _is_id(link) else None,
        widget=str(widget.get("name")) if isinstance(widget, dict) else None,
        label=str(value.get("label") or ""),
    )


def _type(value: Any) -> str:
    return "COMBO" if isinstance(value, list) else str(value) if value not in (None, 0, -1) else "*"


def _links(value: Any, source: str) -> Iterator[tuple[str, Link]]:
    for each in value if isinstance(value, list) else []:
        if each is None:
            continue
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        parts = [each.get(key) for key in keys] if isinstance(each, dict) else each
        if not isinstance(parts, list) or len(parts) < 5 or not all(map(_is_id, parts[:5])):
            raise WorkflowError(f"{source}: not a link: {str(each)[:80]}")
        link_id, origin, slot, target, target_slot = parts[:5]
        if not isinstance(slot, int) or not isinstance(target_slot, int) or slot < 0:
            raise WorkflowError(
                f"{source}: link {link_id} names no output or input number: {str(each)[:80]}"
            )
        yield str(link_id), Link(str(origin), slot, str(target), target_slot)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)

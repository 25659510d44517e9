"""Group nodes, which the editors of 2023 to 2025 had in place of subgraphs, as subgraphs. No I/O.

    workflow = with_groups_as_subgraphs(workflow, value, object_info, source="w.json")

A file keeps what a group node contains in extra.groupNodes. The node itself, of type
"workflow>NAME" (at first "workflow/NAME"), has the links from outside and one list of the values
of all widgets inside. Where an input, a value or an output belongs follows from the contents, by
the rules of the editors that had group nodes. (Newer editors mix the values up when they open such
a file.) Different on purpose: a link to a widget or reroute in a group node counts, and a muted
group node is left out with all that it contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import WorkflowError
from .editor import (
    BYPASSED,
    FROM_OUTSIDE,
    MOST_NODES,
    MUTED,
    NOTES,
    PRIMITIVE,
    REROUTE,
    TO_OUTSIDE,
    EditorGraph,
    EditorNode,
    EditorWorkflow,
    Link,
    Slot,
    is_editor_format,
    parse_editor,
    shown,
    too_large,
)
from .widgets import Input, Widget, declared_inputs, shape_of

PREFIXES = ("workflow>", "workflow/")
_NOT_RUN = (MUTED, BYPASSED)
# The button that the editor gives a node whose input has one of these options; it saves a value.
_UPLOAD = Input("upload", "IMAGEUPLOAD", {}, required=True)
_UPLOADS = {"image_upload", "animated_image_upload", "video_upload"}


def with_groups_as_subgraphs(
    workflow: EditorWorkflow, value: Mapping[str, Any], object_info: Mapping[str, Any], source: str
) -> EditorWorkflow:
    """The workflow, parsed from `value`, with a subgraph of its own for each group node.

    Raises:
        WorkflowError: a group node whose values or inputs are not those of its contents, or more
            than MOST_NODES nodes in them together.
    """
    contents = {
        f"{prefix}{name}": each
        for name, each in _object(value.get("extra"), "groupNodes").items()
        for prefix in PREFIXES
    }
    nodes, subgraphs, made = dict(workflow.root.nodes), dict(workflow.subgraphs), 0
    for host in workflow.root.nodes.values():
        if host.type in contents.keys() - object_info.keys() and host.mode not in _NOT_RUN:
            group = _Group(contents[host.type], object_info, f"{source}: group {host.name}")
            kind = f"{host.type} at node {host.id}"
            subgraphs[kind] = group.subgraph(host)
            nodes[host.id] = replace(host, type=kind, values=None)
            made += len(subgraphs[kind].nodes)
            if made > MOST_NODES:
                raise too_large(source)
    return EditorWorkflow(replace(workflow.root, nodes=nodes), subgraphs)


@dataclass(frozen=True)
class _Place:
    """An input of a node inside; `slot` is its position among those that the file lists."""

    node: EditorNode
    input: Input
    has_widget: bool
    slot: int | None


class _Group:
    """What a group node contains. Its nodes' ids are their positions.

    `_inputs` are the places that the group node shows, by its names for them; `_positions` the
    places of its values, None for a value that is not sent.
    """

    def __init__(self, value: Any, object_info: Mapping[str, Any], where: str) -> None:
        if not is_editor_format(value):
            raise WorkflowError(f"{where}: its contents are not an object with a list of nodes")
        numbered = [
            each | {"id": number} if isinstance(each, dict) else each
            for number, each in enumerate(value["nodes"])
        ]
        # As saved: from node, output, to node, input. Without a node the link is from outside.
        links = [[number, *each[:4]] for number, each in enumerate(_rows(value, "links"))]
        inside = [each for each in links if None not in each]
        graph = parse_editor({"nodes": numbered, "links": inside}, source=where).root
        self._graph = replace(graph, links=dict(_between_nodes(graph)))
        self._where = where
        kinds = {node.type for node in self._graph.nodes.values()}
        described = {kind: object_info.get(kind) for kind in kinds}
        self._info = {kind: each for kind, each in described.items() if isinstance(each, Mapping)}
        self._config = _object(value, "config")
        self._external = {tuple(map(str, each[:2])) for each in _rows(value, "external")}
        self._from = {(each.origin, each.slot) for each in self._graph.links.values()}
        self._into = {(each.target, each.target_slot) for each in self._graph.links.values()}
        self._inputs: dict[str, _Place] = {}
        self._positions: list[_Place | None] = []
        self._refuse_missing()
        self._lay_out()

    def subgraph(self, host: EditorNode) -> EditorGraph:
        """The subgraph that does what the group does at one node."""
        nodes = self._with_values(host)
        links = dict(self._graph.links)
        linked = [slot.name for slot in host.inputs if slot.link is not None]
        for number, name in enumerate(linked):
            place = self._inputs.get(name)
            if place is None:
                raise WorkflowError(
                    f"{self._where}: no node in it has the input '{shown(name)}'; "
                    "convert it to nodes in the ComfyUI that saved it, and save it again"
                )
            if place.node.type == PRIMITIVE:  # what it would set gets the link in its place
                links |= {
                    key: replace(each, origin=FROM_OUTSIDE, slot=number)
                    for key, each in self._graph.links.items()
                    if each.origin == place.node.id
                }
            else:
                node, slot = _with_slot(nodes[place.node.id], place)
                nodes[node.id] = node
                links[f"in {number}"] = Link(FROM_OUTSIDE, number, node.id, slot)
        outputs = list(self._outputs())
        for number, (node_id, slot) in enumerate(outputs):
            links[f"out {number}"] = Link(node_id, slot, TO_OUTSIDE, number)
        return EditorGraph(
            {key: _connected(node, links) for key, node in nodes.items()},
            links,
            name=host.type[len(PREFIXES[0]) :],
            inputs=tuple(linked),
            input_links=tuple((f"in {number}",) for number in range(len(linked))),
            output_links=tuple(f"out {number}" for number in range(len(outputs))),
        )

    def _refuse_missing(self) -> None:
        known = {*self._info, *NOTES, PRIMITIVE, REROUTE}
        for node in self._graph.nodes.values():
            if node.type not in known:
                raise WorkflowError(
                    f"{self._where}: the server lacks {shown(node.type)}, which is in it: "
                    "install its pack there"
                )

    def _lay_out(self) -> None:
        """Goes through the inputs in the order of the editor, which decides names and positions."""
        nodes = [list(self._places(node)) for node in self._graph.nodes.values()]
        seen: dict[str, int] = {}
        for places in nodes:
            for place in places:
                if place.has_widget and place.slot is None:
                    self._show(place, seen)
            for place in places:
                if not place.has_widget:
                    self._show(place, seen)
        for places in nodes:  # widgets that are listed as inputs come last, "10" before "9"
            listed = [place for place in places if place.has_widget and place.slot is not None]
            for place in sorted(listed, key=lambda place: str(place.slot)):
                self._show(place, seen)

    def _places(self, node: EditorNode) -> Iterator[_Place]:
        """The inputs of a node inside that the editor knows."""
        slots = {slot.name: number for number, slot in enumerate(node.inputs)}
        if node.type == PRIMITIVE:
            if (node.id, 0) in self._from:
                control = {"control_after_generate": True}
                yield _Place(node, Input("value", _output(node), control, True), True, None)
        elif node.type == REROUTE:
            passed = Input(self._passed(node), "*", {}, True)
            yield _Place(node, passed, False, 0 if node.inputs else None)
        elif node.type in self._info:
            widgets = self._widgets(node)
            declared = list(declared_inputs(self._info[node.type]))
            for each in declared:
                yield _Place(node, each, each.name in widgets, slots.get(each.name))
            if any(each.options.keys() & _UPLOADS for each in declared):
                yield _Place(node, _UPLOAD, True, slots.get(_UPLOAD.name))

    def _show(self, place: _Place, seen: dict[str, int]) -> None:
        """Notes a place unless a node inside feeds it."""
        if (place.node.id, place.slot) in self._into:
            return
        self._inputs[self._name(place, seen)] = place
        if place.has_widget:
            self._positions += [place, *[None] * place.input.helpers]

    def _name(self, place: _Place, seen: dict[str, int]) -> str:
        """What the group node calls an input: after its node where the name is taken."""
        node, name = place.node, place.input.name
        label = node.inputs[place.slot].label if place.slot is not None else ""
        custom = _object(_object(_object(self._config, node.id), "input"), name).get("name")
        key = found = str(custom or label or name)
        if found in seen or (node.type == PRIMITIVE and node.title):
            prefix = node.title or node.type
            key = found = f"{prefix} {name}"
            if found in seen:
                found = f"{prefix} {seen[key]} {name}"
        seen[key] = seen.get(key, 1) + 1
        return found

    def _passed(self, node: EditorNode) -> str:
        """The type of what a reroute passes on, by which its input is called."""
        for link in self._graph.links.values():
            if link.origin == node.id:
                return self._graph.nodes[link.target].inputs[link.target_slot].type
        return _output(node)

    def _outputs(self) -> Iterator[tuple[str, int]]:
        """(node inside, its output) of each output that the group node shows."""
        for node in self._graph.nodes.values():
            config = _object(_object(self._config, node.id), "output")
            for number in range(self._output_count(node)):
                place = (node.id, number)
                hidden = place in self._from and (node.id, str(number)) not in self._external
                if _object(config, str(number)).get("visible", not hidden):
                    yield place

    def _output_count(self, node: EditorNode) -> int:
        if node.type == REROUTE:
            return 1
        outputs = self._info.get(node.type, {}).get("output")
        return len(outputs) if isinstance(outputs, list) else 0

    def _with_values(self, host: EditorNode) -> dict[str, EditorNode]:
        """The nodes inside with the values that are typed in at the group node."""
        if not isinstance(host.values, list):
            return dict(self._graph.nodes)
        if len(host.values) != len(self._positions):
            raise WorkflowError(
                f"{self._where} has {len(host.values)} saved values, and the nodes in it take "
                f"{len(self._positions)} on this server: it was saved with other versions of them; "
                "convert it to nodes in the ComfyUI that saved it, and save it again"
            )
        typed: dict[str, dict[str, Any]] = {}
        for place, value in zip(self._positions, host.values, strict=True):
            if place is not None:
                typed.setdefault(place.node.id, {})[place.input.name] = value
        return {key: self._typed(node, typed.get(key)) for key, node in self._graph.nodes.items()}

    def _typed(self, node: EditorNode, typed: dict[str, Any] | None) -> EditorNode:
        if typed is None:
            return node
        if node.type == PRIMITIVE:
            return replace(node, values=list(typed.values()))
        own = {name: each.value for name, each in self._widgets(node).items()}
        return replace(node, values=own | typed)

    def _widgets(self, node: EditorNode) -> Mapping[str, Widget]:
        try:
            return shape_of(node, self._info[node.type]).widgets
        except WorkflowError as error:
            raise WorkflowError(f"{self._where}: {error}") from None


def _between_nodes(graph: EditorGraph) -> Iterator[tuple[str, Link]]:
    """The links whose ends are there."""
    for key, link in graph.links.items():
        target = graph.nodes.get(link.target)
        if target and link.origin in graph.nodes and link.target_slot < len(target.inputs):
            yield key, link


def _output(node: EditorNode) -> str:
    return node.outputs[0] if node.outputs else "*"


def _with_slot(node: EditorNode, place: _Place) -> tuple[EditorNode, int]:
    """The node with an input for a place, and that input's position."""
    if place.slot is not None:
        return node, place.slot
    slot = Slot(place.input.name, place.input.type)
    return replace(node, inputs=(*node.inputs, slot)), len(node.inputs)


def _connected(node: EditorNode, links: Mapping[str, Link]) -> EditorNode:
    """The node with these links, in place of those of the graph from which it was taken."""
    into = {each.target_slot: key for key, each in links.items() if each.target == node.id}
    slots = (replace(slot, link=into.get(number)) for number, slot in enumerate(node.inputs))
    return replace(node, inputs=tuple(slots))


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _rows(value: Mapping[str, Any], name: str) -> list[list[Any]]:
    rows = value.get(name)
    return [each for each in rows if isinstance(each, list)] if isinstance(rows, list) else []

"""Editor-format workflows to API format, as ComfyUI's own editor exports them, without a browser.

    converted = convert(json.loads(text), server.object_info(), source="w.json")
    workflow = parse_workflow(converted.graph)

The editor's export is the reference, and the tests compare with it: widget values, converted
inputs, muted and bypassed nodes, reroutes (a muted one cuts its link, as in editors of 2026),
primitive nodes, notes, group nodes and subgraphs (their nodes are called "outer:inner").
Different on purpose: nodes that cannot run because a node before them is muted are left out, as the
server would do, and named in `notes`; a subgraph that is muted or bypassed inside another one is
left out as a whole; ids inside subgraphs stay as saved. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, TypeAlias

from ...errors import WorkflowError
from .dependents import without_dependents
from .editor import (
    BYPASSED,
    FROM_OUTSIDE,
    MOST_NODES,
    MUTED,
    NOTES,
    PRIMITIVE,
    REROUTE,
    EditorGraph,
    EditorNode,
    EditorWorkflow,
    Link,
    Slot,
    parse_editor,
    shown,
    too_large,
)
from .group_nodes import PREFIXES, with_groups_as_subgraphs
from .placeholders import FILE_NAME, SAVERS, filled
from .promoted import Promoted, primitive_targets
from .replacements import Replacements, with_current_classes
from .widgets import CUSTOM_COMBO, Shape, position_of_choice, sent_value, shape_of, wrapped

_SEARCH_NAME = "Node name for S&R"  # the property by which "%Node.widget%" finds a node
_NOT_SENT = {*NOTES, REROUTE, PRIMITIVE}
ObjectInfo: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Converted:
    """A graph in API format, and what was left out of it or renamed, one sentence each."""

    graph: dict[str, Any]
    notes: tuple[str, ...] = ()


def no_replacements() -> Replacements:
    """What a server without /node_replacements answers."""
    return {}


def convert(
    value: Any,
    object_info: ObjectInfo,
    *,
    source: str = "workflow",
    replacements: Callable[[], Replacements] = no_replacements,
) -> Converted:
    """Converts a workflow in editor format for a server with this /object_info.

    Classes that it lacks become what `replacements`, its /node_replacements, names for them.

    Raises:
        WorkflowError: not in editor format, or it uses nodes that the server lacks or features
            that only a browser has.
    """
    current, renamed = with_current_classes(
        value, object_info, replacements, of_the_editor=_NOT_SENT
    )
    parsed = parse_editor(current, source=source)
    workflow = with_groups_as_subgraphs(parsed, current, object_info, source)
    export = _Export(workflow, object_info, source)
    graph = export.graph()
    if not graph:
        raise WorkflowError(
            f"{source} is in editor format and has no node that a server runs; "
            "save it with its nodes"
        )
    left_out = without_dependents(graph, export.lost, object_info)
    return Converted(graph, (*renamed, *export.notes, *left_out))


@dataclass(frozen=True)
class _Value:
    """What an input resolves to if it is not a node's output: a value typed in at a subgraph."""

    value: Any


@dataclass(frozen=True, eq=False)
class _Scope:
    """One appearance of a graph: the root, or a subgraph at one node.

    `path` holds the ids of the nodes around it. `typed` holds what is typed in at the subgraph's
    node for its inputs; `inside` the same for (node id, widget) of its nodes, as editors before
    2026 saved it.
    """

    graph: EditorGraph
    path: tuple[str, ...] = ()
    parent: _Scope | None = None
    host: EditorNode | None = None
    typed: Mapping[str, Any] = field(default_factory=dict)
    inside: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def id_of(self, node: EditorNode) -> str:
        return ":".join((*self.path, node.id))


class _Export:
    """One conversion. `lost` collects the inputs (id, name) whose link leads nowhere."""

    def __init__(self, workflow: EditorWorkflow, object_info: ObjectInfo, source: str) -> None:
        self._subgraphs = workflow.subgraphs
        self._info = object_info
        self._source = source
        self._root = _Scope(workflow.root)
        self._scopes: dict[tuple[str, ...], _Scope] = {(): self._root}
        self.notes: list[str] = []
        self.lost: dict[tuple[str, str], str] = {}
        self.shape = cache(self._shape)
        self._promoted = Promoted(workflow.subgraphs, self.shape)

    def graph(self) -> dict[str, Any]:
        """Every node that is sent, by its id."""
        for kind in self._subgraphs:
            self._refuse_circle(kind, ())
        active = list(islice(self._active(self._root), MOST_NODES + 1))
        if len(active) > MOST_NODES:
            raise too_large(self._source)
        self._refuse_missing(active)
        return {
            scope.id_of(node): self._entry(scope, node)
            for scope, node in active
            if node.type in self._info
        }

    def _refuse_circle(self, kind: str, around: tuple[str, ...]) -> None:
        if kind in around:
            name = shown(self._subgraphs[kind].name)
            raise WorkflowError(f"{self._source}: the subgraph '{name}' contains itself")
        for each in {node.type for node in self._subgraphs[kind].nodes.values()} & set(
            self._subgraphs
        ):
            self._refuse_circle(each, (*around, kind))

    def _active(self, scope: _Scope) -> Iterator[tuple[_Scope, EditorNode]]:
        """The nodes that are not muted, bypassed or the editor's own, with subgraphs expanded."""
        for node in scope.graph.nodes.values():
            if node.mode in (MUTED, BYPASSED) or node.type in _NOT_SENT:
                continue
            if node.type in self._subgraphs:
                yield from self._active(self._inner(scope, node))
            else:
                yield scope, node

    def _refuse_missing(self, active: list[tuple[_Scope, EditorNode]]) -> None:
        missing: dict[str, str] = {}
        for scope, node in active:
            if node.type in self._info:
                continue
            if _is_decoration(scope, node):
                self.notes.append(
                    f"{self._name(scope, node)} is left out: the server lacks {shown(node.type)}, "
                    "and nothing uses it"
                )
            else:
                missing.setdefault(node.type, self._name(scope, node))
        if missing:
            raise WorkflowError(
                f"{self._source}: {'; '.join(_missing(*each) for each in missing.items())}"
            )

    def _entry(self, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        info, shape = self._info[node.type], self.shape(node)
        inputs = {name: value for name, value in self._widget_values(scope, node, shape)}
        for number, slot in enumerate(shape.inputs):
            found = self._resolve_input(scope, node, number, slot.type, frozenset())
            if isinstance(found, _Value):
                inputs[slot.name] = wrapped(self._filled(node, slot.name, found.value))
            elif found is not None:
                inputs[slot.name] = list(found)
            elif slot.link in scope.graph.links and slot.name not in inputs:
                self.lost[scope.id_of(node), slot.name] = self._name(scope, node)
        if node.type == CUSTOM_COMBO and (choice := shape.widgets.get("choice")):
            inputs["index"] = position_of_choice(inputs, choice.value)
        title = node.title or str(
            (isinstance(info, Mapping) and info.get("display_name")) or node.type
        )
        return {"inputs": inputs, "class_type": node.type, "_meta": {"title": title}}

    def _widget_values(
        self, scope: _Scope, node: EditorNode, shape: Shape
    ) -> Iterator[tuple[str, Any]]:
        primitives = self._primitives(scope)
        for name, widget in shape.widgets.items():
            if (node.id, name) in scope.inside:
                yield name, wrapped(self._filled(node, name, scope.inside[node.id, name]))
            else:
                value = primitives.get((node.id, name), widget.value)
                yield name, sent_value(widget, self._filled(node, name, value), node=node)

    def _filled(self, node: EditorNode, name: str, value: Any) -> Any:
        """A value as sent: in the file name of a node that saves, other nodes' values filled in."""
        if name == FILE_NAME and node.type in SAVERS and isinstance(value, str):
            return filled(value, self._value_at)
        return value

    def _value_at(self, name: str, widget: str) -> Any:
        """The value of a widget of the first node that is called so. LookupError: none."""
        graphs = (self._root.graph, *self._subgraphs.values())
        nodes = [node for graph in graphs for node in graph.nodes.values()]
        node = next(
            (each for each in nodes if each.properties.get(_SEARCH_NAME, each.type) == name),
            next((each for each in nodes if each.title == name), None),
        )
        if node is None:
            raise LookupError(name)
        return self.shape(node).widgets[widget].value

    def _shape(self, node: EditorNode) -> Shape:
        """The node's inputs and widgets; as saved for nodes that the server does not have."""
        info = self._info.get(node.type)
        if node.type in self._subgraphs or node.type in _NOT_SENT or not isinstance(info, Mapping):
            return Shape(node.inputs, {})
        try:
            return shape_of(node, info)
        except WorkflowError as error:
            raise WorkflowError(f"{self._source}: {error}") from None

    # Links, from the input that needs something back to the output that provides it.

    def _resolve_input(
        self, scope: _Scope, node: EditorNode, number: int, wanted: str | None, seen: frozenset[str]
    ) -> tuple[str, int] | _Value | None:
        seen = self._seen(seen, f"{scope.id_of(node)} input {number}", scope, node)
        slots = self.shape(node).inputs
        slot = slots[number] if number < len(slots) else None
        link = scope.graph.links.get(slot.link) if slot and slot.link is not None else None
        if slot is None or link is None:
            return None
        if link.origin == FROM_OUTSIDE:
            return self._resolve_outside(scope, link, seen)
        origin = scope.graph.nodes.get(link.origin)
        return (
            self._resolve_output(scope, origin, link.slot, wanted or slot.type, seen)
            if origin
            else None
        )

    def _resolve_outside(
        self, scope: _Scope, link: Link, seen: frozenset[str]
    ) -> tuple[str, int] | _Value | None:
        """What a node of a subgraph gets at the subgraph input that this link comes from."""
        if scope.parent is None or scope.host is None or link.slot >= len(scope.graph.inputs):
            return None
        name = scope.graph.inputs[link.slot]
        for number, slot in enumerate(scope.host.inputs):
            if slot.name == name and slot.link in scope.parent.graph.links:
                return self._resolve_input(scope.parent, scope.host, number, None, seen)
        return _Value(scope.typed[name]) if name in scope.typed else None

    def _resolve_output(
        self, scope: _Scope, node: EditorNode, number: int, wanted: str, seen: frozenset[str]
    ) -> tuple[str, int] | _Value | None:
        seen = self._seen(seen, f"{scope.id_of(node)} output {number}", scope, node)
        if node.mode == MUTED:
            return None
        if node.mode == BYPASSED:
            passed = _passed_input(self.shape(node).inputs, node, number, wanted)
            return None if passed is None else self._resolve_input(scope, node, passed, None, seen)
        if node.type in self._subgraphs:
            return self._resolve_inside(self._inner(scope, node), number, wanted, seen)
        if node.type == REROUTE:
            return self._resolve_input(scope, node, 0, wanted, seen)
        if node.type in _NOT_SENT:
            return None
        return scope.id_of(node), number

    def _resolve_inside(
        self, scope: _Scope, number: int, wanted: str, seen: frozenset[str]
    ) -> tuple[str, int] | _Value | None:
        """What a subgraph provides at one of its outputs."""
        outputs = scope.graph.output_links
        link = scope.graph.links.get(outputs[number] or "") if number < len(outputs) else None
        if link is None:
            return None
        if link.origin == FROM_OUTSIDE:
            return self._resolve_outside(scope, link, seen)
        origin = scope.graph.nodes.get(link.origin)
        return self._resolve_output(scope, origin, link.slot, wanted, seen) if origin else None

    def _seen(
        self, seen: frozenset[str], place: str, scope: _Scope, node: EditorNode
    ) -> frozenset[str]:
        if place in seen:
            raise WorkflowError(
                f"{self._source}: links form a cycle through {self._name(scope, node)}; cut one"
            )
        return seen | {place}

    # Subgraphs.

    def _inner(self, scope: _Scope, host: EditorNode) -> _Scope:
        """The inside of a subgraph at one node."""
        path = (*scope.path, host.id)
        if path not in self._scopes:
            typed, inside = self._promoted.at(host, scope.inside)
            self._scopes[path] = _Scope(
                self._subgraphs[host.type], path, scope, host, typed, inside
            )
        return self._scopes[path]

    def _primitives(self, scope: _Scope) -> dict[tuple[str, str], Any]:
        """What primitive nodes, muted or not, put into (node id, widget)."""
        found: dict[tuple[str, str], Any] = {}
        for node in scope.graph.nodes.values():
            if node.type != PRIMITIVE or not isinstance(node.values, list) or not node.values:
                continue
            value = node.values[0]
            if node.properties.get("Run widget replace on values") and isinstance(value, str):
                value = filled(value, self._value_at)
            found.update((place, value) for place in primitive_targets(scope.graph, node))
        return found

    def _name(self, scope: _Scope, node: EditorNode) -> str:
        inside = f" in subgraph '{shown(scope.graph.name)}'" if scope.path else ""
        return f"node {scope.id_of(node)} '{shown(node.title or self._title(node))}'{inside}"

    def _title(self, node: EditorNode) -> str:
        return self._subgraphs[node.type].name if node.type in self._subgraphs else node.type


def _passed_input(
    slots: tuple[Slot, ...], node: EditorNode, number: int, wanted: str
) -> int | None:
    """The input that a bypassed node passes on for an output: the one opposite, or else by type."""
    if wanted == "*":
        return (number if number < len(slots) else 0) if slots else None
    given = node.outputs[number] if number < len(node.outputs) else "*"

    def fits(slot: Slot) -> bool:
        return _connects(slot.type, given) and _connects(slot.type, wanted)

    if number < len(slots) and fits(slots[number]):
        return number
    exact = (index for index, slot in enumerate(slots) if slot.type == wanted)
    alike = (index for index, slot in enumerate(slots) if fits(slot))
    return next(exact, next(alike, None))


def _connects(one: str, other: str) -> bool:
    if {one, other} & {"*", ""} or one == other:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))


def _is_decoration(scope: _Scope, node: EditorNode) -> bool:
    """Whether a node is connected to nothing, such as a label or a switchboard of the editor."""
    linked = any(slot.link in scope.graph.links for slot in node.inputs)
    return not linked and all(link.origin != node.id for link in scope.graph.links.values())


def _missing(kind: str, name: str) -> str:
    if kind.startswith(PREFIXES):
        return (
            f"{name} is a group node whose contents are not in the file; "
            "open it where the group node exists and save it"
        )
    if len(kind) == 36 and kind.count("-") == 4:
        return (
            f"{name} is a subgraph whose definition is not in the file; "
            "open it where the subgraph exists and save it"
        )
    return (
        f"the server lacks {shown(kind)}, which {name} is: install its pack there, or, if it "
        "exists in the browser only (as Get and Set nodes do), connect the nodes directly"
    )

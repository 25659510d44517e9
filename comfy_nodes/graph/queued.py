"""The graph that is being queued, so that nodes can be checked together before anything runs.

ComfyUI gives a node's VALIDATE_INPUTS the values typed into that node, and nothing of the nodes
linked to it. The graph itself passes through `remember` just before, in the same task.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, TypeVar

from .settings import Graph, is_link

T = TypeVar("T")
Inputs = Mapping[str, Any]


class _Queued:
    """A posted graph, and what nodes have found out about it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[str, Any] = {}

    @cached_property
    def inputs(self) -> dict[str, dict[str, Inputs]]:
        """Class -> node id -> inputs."""
        by_class: dict[str, dict[str, Inputs]] = {}
        for node_id, node in self.graph.items():
            if isinstance(node, Mapping):
                inputs = node.get("inputs")
                inputs = inputs if isinstance(inputs, Mapping) else {}
                by_class.setdefault(str(node.get("class_type")), {})[node_id] = inputs
        return by_class


_queued: ContextVar[_Queued] = ContextVar("queued graph")


def register() -> None:
    """Has ComfyUI's server, if there is one, show every posted prompt to `remember`."""
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    add = getattr(getattr(prompt_server, "instance", None), "add_on_prompt_handler", None)
    if add is not None:
        add(remember)


def remember(body: T) -> T:
    """Keeps the graph of a body of POST /prompt for this task; returns the body unchanged."""
    graph = body.get("prompt") if isinstance(body, Mapping) else None
    _queued.set(_Queued(graph if isinstance(graph, Mapping) else {}))
    return body


def _current() -> _Queued:
    return _queued.get(_Queued({}))


def nodes(class_type: str) -> dict[str, Inputs]:
    """Node id -> inputs, of every node of a class; none if no graph is known."""
    return _current().inputs.get(class_type, {})


def once(name: str, find: Callable[[], T]) -> T:
    """What `find` returns, which is called once for each posted graph."""
    found: dict[str, T] = _current().found
    if name not in found:
        found[name] = find()
    return found[name]


def node_before(inputs: Inputs, name: str) -> str:
    """The id of the node that is linked to an input; "" if none is."""
    link: Any = inputs.get(name)
    return str(link[0]) if is_link(link) else ""


def is_taken(node_id: str, output: int) -> bool:
    """Whether an input of some node is linked to this output of a node."""
    return any(
        is_link(value) and str(value[0]) == node_id and value[1] == output
        for by_id in _current().inputs.values()
        for inputs in by_id.values()
        for value in inputs.values()
    )


def typed(inputs: Inputs, *names: str, optional: tuple[str, ...] = ()) -> dict[str, str]:
    """Name -> text of these inputs, and of those `optional` ones that are there.

    Raises:
        LookupError: one of them is linked, so that its value is not known yet, or is missing.
    """
    present = (*names, *(name for name in optional if name in inputs))
    if any(name not in inputs or is_link(inputs[name]) for name in present):
        raise LookupError("the values are not known before the nodes run")
    return {name: str(inputs[name]) for name in present}

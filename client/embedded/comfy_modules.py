"""The few modules of ComfyUI that node packs import most, for packs that the engine loads.

- comfy_execution.graph_utils: ExecutionBlocker, GraphBuilder, is_link
- comfy_execution.graph: ExecutionBlocker
- comfy.utils: ProgressBar

If ComfyUI itself can be imported, its own modules are used.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from types import ModuleType
from typing import Any

from . import runtime
from .blocking import ExecutionBlocker
from .registry import is_link

_builders = itertools.count()


class ProgressBar:
    """Reports how far a node is, as comfy.utils.ProgressBar does."""

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current = 0.0

    def update_absolute(
        self, value: float, total: float | None = None, preview: Any = None
    ) -> None:
        """Reports `value` of `total` steps; a preview is not sent."""
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        runtime.report_progress(self.current, self.total)

    def update(self, value: float) -> None:
        """Reports `value` more steps."""
        self.update_absolute(self.current + value)


class GraphNode:
    """One node of a GraphBuilder."""

    def __init__(self, node_id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = node_id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to one of its outputs."""
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        """Sets an input; None removes it."""
        self.inputs[key] = value
        if value is None:
            del self.inputs[key]

    def get_input(self, key: str) -> Any:
        """An input; None if it is not set."""
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id: str) -> None:
        """Sets the node under which a browser shows this one."""
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        """The node in API format."""
        node = {"class_type": self.class_type, "inputs": self.inputs}
        shown = self.override_display_id
        return node if shown is None else node | {"override_display_id": shown}


class GraphBuilder:
    """Builds the nodes that a node adds to its prompt, with ids that no other builder gives."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = f"added.{next(_builders)}." if prefix is None else prefix
        self.nodes: dict[str, GraphNode] = {}
        self._numbers = itertools.count(1)

    def node(self, class_type: str, id: str | None = None, **inputs: Any) -> GraphNode:
        """A new node, or the one that has this id already."""
        free = (str(each) for each in self._numbers if self.prefix + str(each) not in self.nodes)
        node_id = self.prefix + (next(free) if id is None else id)
        return self.nodes.setdefault(node_id, GraphNode(node_id, class_type, inputs))

    def lookup_node(self, id: str) -> GraphNode | None:
        """The node with this id; None if there is none."""
        return self.nodes.get(self.prefix + id)

    def finalize(self) -> dict[str, Any]:
        """The nodes in API format, for "expand"."""
        return {node_id: node.serialize() for node_id, node in self.nodes.items()}


def provide() -> None:
    """Makes the modules importable, unless ComfyUI is."""
    contents: dict[str, dict[str, Any]] = {
        "comfy_execution": {},
        "comfy_execution.graph_utils": {
            "ExecutionBlocker": ExecutionBlocker,
            "GraphBuilder": GraphBuilder,
            "Node": GraphNode,
            "is_link": is_link,
        },
        "comfy_execution.graph": {"ExecutionBlocker": ExecutionBlocker},
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
    }
    for package in ("comfy_execution", "comfy"):
        if package in sys.modules or importlib.util.find_spec(package) is not None:
            continue
        for name, members in contents.items():
            if name.partition(".")[0] == package:
                _make(name, members)


def _make(name: str, members: dict[str, Any]) -> None:
    module = ModuleType(name, "A part of ComfyUI, as the embedded engine provides it.")
    vars(module).update(members)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    else:
        module.__path__ = []
    sys.modules[name] = module


def connect() -> None:
    """Lets the progress bars of ComfyUI's own comfy.utils report here, if a pack imported it."""
    utils: Any = sys.modules.get("comfy.utils")
    if hasattr(utils, "set_progress_bar_global_hook"):
        utils.set_progress_bar_global_hook(
            lambda value, total, _preview=None, **_: runtime.report_progress(value, total)
        )

"""A prompt while it runs: its own nodes, and those that its nodes add ("expand")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class LivePrompt:
    """The nodes by id. A node with the hidden input DYNPROMPT is given this object.

    The names of its methods are ComfyUI's.
    """

    def __init__(self, original: Mapping[str, Any]) -> None:
        self._original = original
        self._added: dict[str, Any] = {}
        self._parents: dict[str, str] = {}
        self._real: dict[str, str] = {}
        self._displayed: dict[str, str] = {}

    def get_original_prompt(self) -> Mapping[str, Any]:
        """The prompt as it was queued."""
        return self._original

    def get_node(self, node_id: str) -> Any:
        """A node. Raises ValueError if there is none."""
        if not self.has_node(node_id):
            raise ValueError(f"there is no node {node_id}")
        return self._added[node_id] if node_id in self._added else self._original[node_id]

    def has_node(self, node_id: str) -> bool:
        """Whether there is such a node."""
        return node_id in self._added or node_id in self._original

    def all_node_ids(self) -> set[str]:
        """The ids of all nodes so far."""
        return {*self._original, *self._added}

    def get_parent_node_id(self, node_id: str) -> str | None:
        """The node that added this one; None for a node of the original prompt."""
        return self._parents.get(node_id)

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the original prompt from which this one comes; maybe itself."""
        return self._real.get(node_id, node_id)

    def get_display_node_id(self, node_id: str) -> str:
        """The node under which a browser shows this one; maybe itself."""
        return self._displayed.get(node_id, node_id)

    def add(self, graph: Mapping[str, Any], parent_id: str) -> None:
        """Adds nodes in API format. Raises ValueError if an id is taken."""
        for node_id, node in graph.items():
            if self.has_node(node_id):
                raise ValueError(f"node {parent_id} adds a node {node_id}, which exists already")
            shown = self.get_display_node_id(node.get("override_display_id", parent_id))
            self._added[node_id] = node
            self._parents[node_id] = parent_id
            self._real[node_id] = self.get_real_node_id(parent_id)
            self._displayed[node_id] = shown

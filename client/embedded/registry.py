"""The nodes that the engine knows, and how /object_info describes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import comfy_nodes

from .nodes import images as nodes_images
from .nodes import models as nodes_models
from .nodes import sampling as nodes_sampling
from .nodes import texts as nodes_texts

log = logging.getLogger(__name__)

_CORE = (nodes_models, nodes_sampling, nodes_images, nodes_texts)


class Registry:
    """class_type -> V1 node class, with display names."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}
        self.titles: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        for module in _CORE:
            self.add(module.NODE_CLASS_MAPPINGS, module.NODE_DISPLAY_NAME_MAPPINGS)
        self.add(comfy_nodes.NODE_CLASS_MAPPINGS, comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS)

    def add(
        self, classes: Mapping[str, type], titles: Mapping[str, str], *, origin: str | None = None
    ) -> None:
        """Adds a node pack. Existing names win: a built-in node cannot be replaced.

        `origin` is what the descriptions name as the module, if it is not the classes' own.
        """
        for name, node in classes.items():
            if name not in self.classes:
                self.classes[name] = node
                self._origins[name] = origin or node.__module__
        for name, title in titles.items():
            self.titles.setdefault(name, title)

    def describe_all(self) -> dict[str, Any]:
        """/object_info. A node whose INPUT_TYPES fails is left out and logged, as in ComfyUI."""
        described = {}
        for name in self.classes:
            try:
                described[name] = self.describe(name)
            except Exception:
                log.exception("node %s cannot be described", name)
        return described

    def describe(self, name: str) -> dict[str, Any]:
        """One entry of /object_info."""
        node: Any = self.classes[name]
        inputs = node.INPUT_TYPES()
        description = {
            "input": inputs,
            "input_order": {category: list(entries) for category, entries in inputs.items()},
            "output": node.RETURN_TYPES,
            "output_is_list": getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)),
            "output_name": getattr(node, "RETURN_NAMES", node.RETURN_TYPES),
            "name": name,
            "display_name": self.titles.get(name, name),
            "description": getattr(node, "DESCRIPTION", ""),
            "python_module": self._origins[name],
            "category": getattr(node, "CATEGORY", "sd"),
            "output_node": is_output(node),
        }
        if hasattr(node, "OUTPUT_TOOLTIPS"):
            description["output_tooltips"] = node.OUTPUT_TOOLTIPS
        for attribute in ("DEPRECATED", "EXPERIMENTAL"):
            if getattr(node, attribute, False):
                description[attribute.lower()] = True
        return description


def is_output(node: Any) -> bool:
    """Whether a node class saves or shows something, so that a prompt runs for its sake."""
    return getattr(node, "OUTPUT_NODE", False) is True


def input_spec(inputs: Mapping[str, Any], name: str) -> tuple[Any, str, dict[str, Any]] | None:
    """(type, category, options) of one input of INPUT_TYPES(); None if it is not declared."""
    for category in ("required", "optional", "hidden"):
        declared = inputs.get(category, {})
        if name in declared:
            entry = declared[name]
            return entry[0], category, entry[1] if len(entry) > 1 else {}
    return None


def is_link(value: Any) -> bool:
    """Whether an input's value is [node id, output number]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )

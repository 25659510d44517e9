"""The nodes of a workflow in API format, found by class or title, and their values. No I/O.

    graph.place("steps")                         # the one (node id, input) that --steps sets
    graph.with_values({("3", "steps"): 30})      # a copy

A role is a node class: the client never needs to know node ids or titles.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..errors import WorkflowError
from .roles import BATCHER, CLASS_LIST, LATENT, PLAN_NODES, SAVER, TARGETS, TEMPLATES, TITLES

SameGraph = TypeVar("SameGraph", bound="ApiGraph")


@dataclass(frozen=True)
class ApiGraph:
    """Nodes in API format, {node id: {"class_type", "inputs"}}, and their source. Immutable."""

    graph: Mapping[str, Mapping[str, Any]]
    source: str = "workflow"

    def ids_of(self, *class_types: str) -> list[str]:
        """Ids of the nodes of these classes, in file order."""
        return [
            node_id for node_id, node in self.graph.items() if node["class_type"] in class_types
        ]

    def only_id_of(self, class_type: str) -> str:
        """Id of the one node of a class.

        Raises:
            WorkflowError: there is none, or more than one (both listed).
        """
        found = self.ids_of(class_type)
        if not found:
            raise WorkflowError(
                f"{self.source} has no {class_type} node; it needs the SynthGrid nodes "
                f"{CLASS_LIST}, {TEMPLATES}, {BATCHER} and {SAVER}: "
                "start from workflows/api/sd15_class_prompts.json"
            )
        if len(found) > 1:
            raise WorkflowError(
                f"{self.source} has {len(found)} {class_type} nodes "
                f"({', '.join(map(self.name_of, found))}), and it is not clear which one is meant; "
                "keep one"
            )
        return found[0]

    def name_of(self, node_id: str) -> str:
        """For messages: "node 4 'Load Checkpoint'"."""
        title = (
            shortened(" ".join(self.title_of(node_id).split())) if self.title_of(node_id) else ""
        )
        return f"node {node_id} '{title}'" if title else f"node {node_id}"

    def value(self, node_id: str, name: str, default: Any = None) -> Any:
        """A typed-in input of a node.

        Raises:
            WorkflowError: the input comes over a link, so its value is not known here.
        """
        found = self.graph[node_id]["inputs"].get(name, default)
        if is_link(found):
            raise WorkflowError(
                f"{self.name_of(node_id)} takes '{name}' from node {found[0]}; "
                "the client must know it beforehand: type the value in instead"
            )
        return found

    def option(self, name: str) -> Any:
        """The graph's value for an option; None if it is absent, linked, or in several nodes."""
        places = self._places(name)
        if len(places) != 1:
            return None
        found = self.graph[places[0][0]]["inputs"][places[0][1]]
        return None if is_link(found) else found

    def _places(self, option: str) -> list[tuple[str, str]]:
        """(node id, input) pairs that carry an option: by class, else by title."""
        by_class = [
            (node_id, name)
            for class_type, name in TARGETS[option]
            for node_id in self.ids_of(class_type)
            if name in self.graph[node_id]["inputs"] or class_type in (*PLAN_NODES, SAVER, LATENT)
        ]
        titles = TITLES.get(option, ())
        return by_class or [
            each for each in self._with_input(option) if self.title_of(each[0]).casefold() in titles
        ]

    def _with_input(self, option: str) -> list[tuple[str, str]]:
        """(node id, input) of every node that has an input with the option's name."""
        names = dict.fromkeys(name for _, name in TARGETS[option])
        return [
            (node_id, name)
            for name in names
            for node_id, node in self.graph.items()
            if name in node["inputs"]
        ]

    def title_of(self, node_id: str) -> str:
        """The title in the editor; "" where none is saved."""
        meta = self.graph[node_id].get("_meta")
        return str(meta.get("title") or "") if isinstance(meta, Mapping) else ""

    def place(self, option: str) -> tuple[str, str]:
        """The one (node id, input) that an option patches.

        Raises:
            WorkflowError: no node takes it, several do, or the input is linked. Lists candidates.
        """
        places = self._places(option)
        if not places:
            wanted = " or ".join(f"{class_type}.{name}" for class_type, name in TARGETS[option])
            others = self._with_input(option)
            hint = (
                f"; nodes with such an input: {self._listed(others)}; "
                f"choose with {_set_example(others)}"
                if others
                else ""
            )
            raise WorkflowError(
                f"{self.source} has no node that takes --{flag(option)}; looked for {wanted}{hint}"
            )
        if len(places) > 1:
            raise WorkflowError(
                f"--{flag(option)} could go to {self._listed(places)} in {self.source}; "
                f"keep one, or choose with "
                f"{_set_example(places)}"
            )
        node_id, name = places[0]
        self.value(node_id, name, "")
        return node_id, name

    def _listed(self, places: Sequence[tuple[str, str]]) -> str:
        return ", ".join(self.name_of(node_id) for node_id, _ in places)

    def takes(self, node_id: str, output: int) -> bool:
        """Whether an input of some node is linked to this output."""
        return any(
            is_link(value) and tuple(value) == (node_id, output)
            for node in self.graph.values()
            for value in node["inputs"].values()
        )

    def with_values(self: SameGraph, changes: Mapping[tuple[str, str], Any]) -> SameGraph:
        """A copy in which the inputs (node id, name) have these values."""
        graph: dict[str, Any] = copy.deepcopy(dict(self.graph))
        for (node_id, name), value in changes.items():
            graph[node_id]["inputs"][name] = value
        return replace(self, graph=graph)

    def settings(self) -> dict[str, Any]:
        """The typed-in values of options: {"checkpoint": ..., "steps": 20, ...}."""
        names = ("checkpoint", "width", "height", "steps", "cfg", "sampler", "scheduler")
        found = {name: self.option(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


def flag(option: str) -> str:
    """How the command line calls an option of `Options`, without the dashes."""
    names = {
        "templates": "template",
        "images_per_class": "per-class",
        "images_per_prompt": "per-prompt",
        "strengths": "strength",
    }
    return names.get(option, option.replace("_", "-"))


def _set_example(places: Sequence[tuple[str, str]]) -> str:
    return f"--set '{places[0][0]}.{places[0][1]}=...'"


def shortened(text: str) -> str:
    """Text of any length as a message can show it: at most 60 letters."""
    return text if len(text) <= 60 else text[:57] + "..."


def is_link(value: Any) -> bool:
    """Whether an input is a link, [node id, output number], and not a value."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and type(value[1]) is int
    )

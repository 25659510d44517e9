"""How a V1 node is called: once per element of its input lists; and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import runtime
from ..blocking import blocker_among, is_blocker


def call_over_lists(
    node: Any,
    inputs: Mapping[str, list[Any]],
    function_name: str = "",
    on_blocked: Callable[[Any], Any] = lambda blocker: blocker,
) -> list[Any]:
    """Calls the node's FUNCTION, or another, once per place of its longest input list.

    A shorter list repeats its last value. A node with INPUT_IS_LIST is called once, with whole
    lists. A call whose arguments hold an ExecutionBlocker is not made; `on_blocked` gives what
    counts as its answer. Coroutines of several calls run at the same time.
    """
    function = getattr(node, function_name or node.FUNCTION)
    if getattr(node, "INPUT_IS_LIST", False):
        runtime.stop_if_interrupted()
        blocker = blocker_among(value for values in inputs.values() for value in values)
        return runtime.completed([function(**inputs) if blocker is None else on_blocked(blocker)])
    longest = max((len(values) for values in inputs.values()), default=0)
    if longest == 0:  # no inputs, or only empty lists: one call without arguments, as in ComfyUI
        inputs, longest = {}, 1
    returned = []
    for place in range(longest):
        runtime.stop_if_interrupted()
        arguments = {name: values[min(place, len(values) - 1)] for name, values in inputs.items()}
        blocker = blocker_among(arguments.values())
        returned.append(function(**arguments) if blocker is None else on_blocked(blocker))
    return runtime.completed(returned)


@dataclass
class Returned:
    """What all calls of a node returned.

    `results` has one sequence of outputs a call; where a call added nodes, `graphs` holds them at
    the same place, and its outputs may be links to them.
    """

    results: list[Any] = field(default_factory=list)
    graphs: list[Mapping[str, Any] | None] = field(default_factory=list)
    ui: dict[str, Any] = field(default_factory=dict)

    @property
    def expands(self) -> bool:
        """Whether any call added nodes."""
        return any(graph is not None for graph in self.graphs)


def read_returns(returned: list[Any], node_class: Any) -> Returned:
    """Takes apart what a node's calls returned: a tuple, or an object with result, ui, expand."""
    found, uis = Returned(), []
    for value in returned:
        result, graph = value, None
        if isinstance(value, dict):
            if "ui" in value:
                uis.append(value["ui"])
            graph = value.get("expand")
            if graph is None and "result" not in value:
                continue
            result = value.get("result")
        if is_blocker(result):
            result = (result,) * len(node_class.RETURN_TYPES)
        found.results.append(() if result is None and graph is not None else result)
        found.graphs.append(graph)
    found.ui = {key: [each for one in uis for each in one[key]] for key in uis[0]} if uis else {}
    return found


def by_output(results: list[Any], node_class: Any) -> list[list[Any]]:
    """Outputs per call -> a list of values per output.

    An output that OUTPUT_IS_LIST marks delivers the elements of its lists, any other one value per
    call.
    """
    if not results:
        return []
    is_list = getattr(node_class, "OUTPUT_IS_LIST", [False] * len(results[0]))
    outputs: list[list[Any]] = []
    for place, flattened in zip(range(len(results[0])), is_list, strict=False):
        values = [result[place] for result in results]
        if flattened:
            values = [
                each for value in values for each in ([value] if is_blocker(value) else value)
            ]
        outputs.append(values)
    return outputs

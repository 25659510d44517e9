"""`--set "Node title.input=value"`: any input of any node of a workflow. No I/O.

The part before the dot is a node id, a title, or a class, tried in this order. The value is read as
JSON, or else as text.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...errors import WorkflowError
from ..api_graph import is_link
from ..graph import Workflow
from ..roles import BATCHER, CAPTIONS, SAVER

MOST_LISTED = 10
# What the client sets for every job.
_OURS = {
    BATCHER: ("batch_index", "only", "resume_folder", "try_one_of_each"),
    SAVER: ("folder", "overwrite"),
    CAPTIONS: ("part",),
}


def with_settings(workflow: Workflow, settings: Iterable[str]) -> Workflow:
    """The workflow with these settings applied, in order.

    Raises:
        WorkflowError: not a setting; a node or input that does not exist or is ambiguous (the
            candidates are listed, nearest names first); an input that is linked or is the client's.
    """
    return workflow.with_values(dict(_resolved(workflow, each) for each in settings))


def _resolved(workflow: Workflow, setting: str) -> tuple[tuple[str, str], Any]:
    place, equals, text = setting.partition("=")
    place = place.strip()
    if not equals or "." not in place:
        raise WorkflowError(
            f"--set '{setting}': expected NODE.INPUT=VALUE, as in --set 'Image size.width=768'"
        )
    node_id, name = _place(workflow, place)
    node = workflow.graph[node_id]
    if name in _OURS.get(node["class_type"], ()):
        raise WorkflowError(
            f"--set '{place}': the client itself sets '{name}' of {workflow.name_of(node_id)} "
            "for every job"
        )
    if node["class_type"] == CAPTIONS and workflow.captions and name != "negative_prompt":
        raise WorkflowError(f"--set '{place}': --captions says what '{name}' is; leave one out")
    workflow.value(node_id, name)
    value = _value(text)
    if is_link(value):
        raise WorkflowError(f"--set '{place}': {text} is a link to another node; expected a value")
    return (node_id, name), value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _place(workflow: Workflow, place: str) -> tuple[str, str]:
    """(node id, input). Titles and inputs may contain dots themselves, so every dot is tried."""
    named = [
        (nodes, name) for target, name in _splits(place) if (nodes := _nodes(workflow, target))
    ]
    if not named:
        raise WorkflowError(_unknown_node(workflow, place))
    found = [
        (node_id, name)
        for nodes, name in named
        for node_id in nodes
        if _takes(workflow, node_id, name)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(
            f"{workflow.name_of(node_id)} ({_class(workflow, node_id)})" for node_id, _ in found
        )
        raise WorkflowError(
            f"--set '{place}' could mean {listed} in {workflow.source}; "
            f"name one by its id, as in '{found[0][0]}.{found[0][1]}'"
        )
    nodes, name = named[0]
    inputs = list(workflow.graph[nodes[0]]["inputs"])
    raise WorkflowError(
        f"--set '{place}': {workflow.name_of(nodes[0])} ({_class(workflow, nodes[0])}) "
        f"has no input '{name}'; it has " + (_listed(name, inputs) or "none")
    )


def _splits(place: str) -> Iterator[tuple[str, str]]:
    parts = place.split(".")
    for number in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:number]).strip(), ".".join(parts[number:]).strip()


def _nodes(workflow: Workflow, target: str) -> list[str]:
    if target in workflow.graph:
        return [target]
    titled = [node_id for node_id in workflow.graph if workflow.title_of(node_id) == target]
    return titled or workflow.ids_of(target)


def _takes(workflow: Workflow, node_id: str, name: str) -> bool:
    """Whether a node has an input. Older files may lack optional inputs of SynthGrid's nodes."""
    return name in workflow.graph[node_id]["inputs"] or name in _OURS.get(
        _class(workflow, node_id), ()
    )


def _class(workflow: Workflow, node_id: str) -> str:
    return str(workflow.graph[node_id]["class_type"])


def _unknown_node(workflow: Workflow, place: str) -> str:
    target = place.partition(".")[0].strip()
    names = [workflow.title_of(node_id) or _class(workflow, node_id) for node_id in workflow.graph]
    classes = [_class(workflow, node_id) for node_id in workflow.graph]
    near = nearest(target, [*names, *classes])
    shown = _listed(target, list(dict.fromkeys((*near, *names))))
    return (
        f"--set '{place}': {workflow.source} has no node with the id, title or class '{target}'; "
        f"it has {shown}"
    )


def _listed(name: str, names: Sequence[str]) -> str:
    ordered = list(dict.fromkeys((*nearest(name, names), *names)))
    more = f" and {len(ordered) - MOST_LISTED} more" if len(ordered) > MOST_LISTED else ""
    return ", ".join(ordered[:MOST_LISTED]) + more


def nearest(name: str, names: Sequence[str], *, most: int = 5) -> list[str]:
    """The names most like `name`, best first; upper and lower case are equal."""
    by_lower = {each.lower(): each for each in names}
    return [
        by_lower[each]
        for each in difflib.get_close_matches(name.lower(), list(by_lower), n=most, cutoff=0.4)
    ]

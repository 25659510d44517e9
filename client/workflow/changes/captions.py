"""Captions in place of a workflow's classes and templates.

    workflow = with_captions(workflow, read_captions(path))

The graph holds no captions that came from a file, and a job only those of its own rows: a graph is
saved inside every image, and a million captions would be too.
"""

from __future__ import annotations

import copy
from typing import Any

from comfy_nodes.plan.captions import DEFAULT_LABEL, Captions

from ...errors import WorkflowError
from ..graph import Workflow
from ..roles import BATCHER, CAPTIONS, CLASS_LIST, TEMPLATES

# Of a node whose captions are held outside the graph.
_NOTHING = {"captions": "", "path": "", "part": "", "label": DEFAULT_LABEL}


def with_captions(workflow: Workflow, captions: Captions) -> Workflow:
    """The workflow with these captions in place of its classes and templates, or of its captions.

    The negative prompt stays.

    Raises:
        WorkflowError: a node is missing, there are several, or others use the classes or templates.
    """
    graph: dict[str, Any] = copy.deepcopy(dict(workflow.graph))
    if workflow.captions_id is None:
        node_id = _replaced(workflow, graph)
    else:
        node_id = workflow.captions_id
        graph[node_id]["inputs"] |= _NOTHING
    batcher = graph[workflow.only_id_of(BATCHER)]
    batcher["inputs"] |= {"classes": [node_id, 0], "templates": [node_id, 1]}
    return Workflow(graph, workflow.source, captions)


def _replaced(workflow: Workflow, graph: dict[str, Any]) -> str:
    """Puts a captions node in the place of the class list; returns its id."""
    list_id, templates_id, batcher_id = (
        workflow.only_id_of(each) for each in (CLASS_LIST, TEMPLATES, BATCHER)
    )
    for node_id, node in graph.items():
        taken = {value[0] for value in node["inputs"].values() if isinstance(value, list) and value}
        if node_id != batcher_id and taken & {list_id, templates_id}:
            raise WorkflowError(
                f"{workflow.name_of(node_id)} uses the classes or templates of {workflow.source}, "
                "which captions replace; give another workflow, or take the node out"
            )
    negative = workflow.graph[templates_id]["inputs"].get("negative_prompt", "")
    graph[list_id] = {
        "class_type": CAPTIONS,
        "inputs": {**_NOTHING, "negative_prompt": negative},
        "_meta": {"title": "Captions"},
    }
    del graph[templates_id]
    return list_id

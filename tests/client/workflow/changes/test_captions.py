"""Captions in place of a workflow's classes and templates: the graph, the plan, and each job."""

import json
from dataclasses import replace

import pytest

from client.errors import WorkflowError
from client.workflow.changes.options import Options, patch
from client.workflow.changes.overrides import with_settings
from client.workflow.graph import parse_workflow
from comfy_nodes.banks.prompt_bank import PromptBank
from comfy_nodes.nodes.captions import CaptionsNode
from comfy_nodes.plan import ClassEntry
from comfy_nodes.plan.caption_plan import CaptionPlan
from comfy_nodes.plan.captions import Captions, parse_captions
from tests.client.helpers import stub_workflow

CAPTIONS = Captions((f"caption {n} {{a|b}}", f"label {n % 2}") for n in range(7))
OPTIONS = Options(captions=CAPTIONS, images_per_prompt=2, batch_size=3, plan_seed=5)


def test_the_shipped_workflow_takes_captions_and_keeps_the_rest(workflow):
    changed = patch(workflow, replace(OPTIONS, negative="text", steps=9))
    assert changed.plan() == CaptionPlan(CAPTIONS, "text", 2, 5)
    assert changed.batch_size == 3
    assert changed.content == patch(workflow, Options(steps=9)).content
    assert changed.ids_of("SynthGridClassList", "SynthGridPromptTemplates") == []
    assert "caption 1" not in json.dumps(changed.graph)


def test_the_negative_prompt_of_the_workflow_stays(workflow):
    before = patch(workflow, Options(negative="as it was"))
    assert patch(before, OPTIONS).plan().negative_prompt == "as it was"


def test_captions_take_the_place_of_captions(workflow):
    other = patch(patch(workflow, OPTIONS), Options(captions=parse_captions("one\ntwo")))
    assert other.plan().captions == parse_captions("one\ntwo")
    assert len(other.ids_of("SynthGridCaptions")) == 1


@pytest.mark.parametrize("batch_index", range(5))
def test_a_job_has_the_captions_of_its_rows_alone_and_makes_the_planned_rows(batch_index):
    workflow = patch(stub_workflow(), OPTIONS)
    plan = workflow.plan()
    graph = workflow.for_batch(batch_index, folder="x")
    (node,) = (node for node in graph.values() if node["class_type"] == "SynthGridCaptions")
    assert len(node["inputs"]["captions"].splitlines()) == 3
    assert CaptionsNode.VALIDATE_INPUTS(node["inputs"]["captions"], "") is True
    captions, prompts = CaptionsNode().read(**node["inputs"])
    made = CaptionPlan(captions, prompts.negative_prompt, 2, 5)
    assert made.plan_id == plan.plan_id
    assert made.batch(batch_index, 3) == plan.batch(batch_index, 3)


def test_a_batch_larger_than_the_captions_has_each_once():
    workflow = patch(stub_workflow(), replace(OPTIONS, batch_size=10))
    graph = workflow.for_batch(1, folder="x")
    (node,) = (node for node in graph.values() if node["class_type"] == "SynthGridCaptions")
    captions, _ = CaptionsNode().read(**node["inputs"])
    assert captions.held == 7
    assert CaptionPlan(captions, "", 2, 5).batch(1, 10) == workflow.plan().batch(1, 10)


def with_node(**inputs):
    """A workflow whose captions are typed in, as ComfyUI exports it."""
    graph = json.loads(json.dumps(stub_workflow().graph))
    typed = {"captions": "a dog\na fox", "path": "", "label": "", "negative_prompt": ""} | inputs
    graph["1"] = {"class_type": "SynthGridCaptions", "inputs": typed}
    del graph["2"]
    graph["3"]["inputs"] |= {"templates": ["1", 1], "images_per_prompt": 4}
    return parse_workflow(graph)


def test_captions_typed_into_a_workflow_are_its_plan():
    assert with_node().plan() == CaptionPlan(parse_captions("a dog\na fox"), "", 4, 0)
    node = with_node().for_batch(1, folder="x")["1"]
    assert len(node["inputs"]["captions"].splitlines()) == 2
    assert json.loads(node["inputs"]["part"])["first"] == 1


def test_captions_that_only_the_server_knows_are_asked_for():
    with pytest.raises(WorkflowError, match=r"from a file on the server; .* --captions FILE"):
        with_node(path="c.txt").plan()
    with pytest.raises(WorkflowError, match="only the captions of one batch"):
        with_node(part="{}").plan()
    with pytest.raises(WorkflowError, match="takes 'captions' from node 3"):
        with_node(captions=["3", 0]).plan()
    assert len(patch(with_node(path="c.txt", part="{}"), OPTIONS).plan()) == 14


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("classes", (ClassEntry("bat"),)),
        ("templates", ("a {class}",)),
        ("contexts", ("x",)),
        ("styles", ("x",)),
        ("bank", PromptBank()),
        ("images_per_class", 3),
    ],
)
def test_what_belongs_to_classes_is_refused_beside_captions(option, value):
    with pytest.raises(WorkflowError, match="captions are prompts as they are and cannot go with"):
        Options(captions=CAPTIONS, **{option: value})
    with pytest.raises(WorkflowError, match="makes images of captions, which take no --"):
        patch(with_node(), Options(**{option: value}))


def test_captions_with_the_templates_of_classes_are_refused():
    graph = json.loads(json.dumps(with_node().graph))
    graph["2"] = stub_workflow().graph["2"]
    graph["3"]["inputs"]["templates"] = ["2", 0]
    with pytest.raises(WorkflowError, match="node 3 has captions and other templates; connect"):
        parse_workflow(graph).plan()


def test_no_other_input_is_set_beside_a_file_of_captions():
    workflow = patch(stub_workflow(), OPTIONS)
    changed = with_settings(workflow, ["Captions.negative_prompt=text"])
    assert changed.plan().negative_prompt == "text"
    for name in ("captions", "label", "path"):
        with pytest.raises(WorkflowError, match=f"--captions says what '{name}' is"):
            with_settings(workflow, [f"Captions.{name}=x"])
    assert with_settings(with_node(), ["1.captions=one"]).plan().captions.total == 1
    with pytest.raises(WorkflowError, match="the client itself sets 'part'"):
        with_settings(with_node(), ["1.part=x"])


def test_a_node_that_needs_the_classes_is_named():
    graph = json.loads(json.dumps(stub_workflow().graph))
    graph["9"] = {"class_type": "SynthGridSaveBank", "inputs": {"classes": ["1", 0]}}
    with pytest.raises(WorkflowError, match="node 9 uses the classes or templates"):
        patch(parse_workflow(graph), OPTIONS)

"""A workflow against /object_info: one line that names culprit and way out."""

import contextlib

import pytest

from client.errors import WorkflowError
from client.validation import nearest, validate, warnings
from client.workflow import Options, parse_workflow, patch


def refusal(graph, object_info):
    with pytest.raises(WorkflowError) as caught:
        validate(parse_workflow(graph), object_info)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_workflow_is_valid(workflow, object_info):
    validate(workflow, object_info)


def test_our_nodes_missing_on_the_server_are_named_with_the_way_out(graph, object_info):
    without = {name: info for name, info in object_info.items() if not name.startswith("SynthGrid")}
    message = refusal(graph, without)
    assert "SynthGridClassPromptBatcher" in message
    assert "custom_nodes" in message


def test_an_unknown_node_names_its_nearest(graph, object_info):
    graph["20"] = {"class_type": "CFGGuide", "inputs": {}}
    assert "nearest: CFGGuider" in refusal(graph, object_info)


def test_an_unknown_checkpoint_lists_what_is_there_nearest_first(graph, object_info):
    graph["1"]["inputs"]["ckpt_name"] = "v1-5-pruned.safetensors"
    message = refusal(graph, object_info)
    assert "node 1 'Checkpoint': ckpt_name 'v1-5-pruned.safetensors' is not on this server" in message
    assert message.index("v1-5-pruned-emaonly") < message.index("sd_xl_base")


def test_a_server_without_checkpoints_says_so(graph, object_info):
    info = object_info | {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[]]}}, "output": []}}
    assert "it has none" in refusal(graph, info)


@pytest.mark.parametrize(
    ("node", "name", "value", "message"),
    [
        ("8", "sampler_name", "eulr", "sampler_name 'eulr' is not on this server; it has euler"),
        ("9", "steps", 0, "steps 0 is below the smallest value 1"),
        ("9", "denoise", 1.5, "denoise 1.5 is above the largest value 1"),
        ("9", "steps", 2.5, "expected a whole number"),
        ("9", "steps", True, "expected a whole number"),
        ("10", "cfg", "4", "expected a number"),
        ("10", "cfg", float("nan"), "expected a number"),
        ("6", "txt", 1, "has no input 'txt'; available: batch, width, height"),
        ("12", "samples", ["8", 0], "'samples' needs LATENT, but output 0 of node 8 'Sampler' is SAMPLER"),
        ("12", "samples", ["8", 4], "takes output 4 of node 8 'Sampler', which has 1"),
        ("12", "samples", None, "samples needs a link to a LATENT"),
    ],
)
def test_a_wrong_input_is_named_with_what_would_be_right(graph, object_info, node, name, value, message):
    graph[node]["inputs"][name] = value
    assert message in refusal(graph, object_info)


def test_a_missing_required_input_is_named(graph, object_info):
    del graph["12"]["inputs"]["vae"]
    assert "node 12 'Decode' lacks the input 'vae'" in refusal(graph, object_info)


def test_an_optional_input_may_be_left_out(graph, object_info):
    del graph["4"]["inputs"]["only"]
    validate(parse_workflow(graph), object_info)


def test_nodes_that_make_up_inputs_may_have_any(graph, object_info):
    graph["20"] = {"class_type": "Any", "inputs": {"one": 1, "two": ["8", 0]}}
    info = object_info | {"Any": {"input": {"required": {}, "optional": {"any": ["*", {}]}}, "output": []}}
    validate(parse_workflow(graph), info)


def test_every_problem_is_in_the_one_line_up_to_a_limit(graph, object_info):
    graph["6"]["inputs"] |= {f"odd{number}": 1 for number in range(9)}
    message = refusal(graph, object_info)
    assert "odd0" in message
    assert "and 3 more" in message


def test_a_hostile_object_info_does_not_crash(workflow):
    names = {node["class_type"] for node in workflow.graph.values()}
    for odd in (None, [], 3, {"input": []}, {"input": {"required": None}, "output": "x"}):
        with contextlib.suppress(WorkflowError):
            validate(workflow, dict.fromkeys(names, odd))


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde_gpu", "lcm", "uni_pc", "dpm_2", "dpm_adaptive"])
def test_samplers_that_break_reproducing_one_image_alone_are_warned_of(workflow, sampler):
    assert sampler in warnings(patch(workflow, Options(sampler=sampler)))[0]


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ddim"])
def test_samplers_that_keep_it_are_not(workflow, sampler):
    assert warnings(patch(workflow, Options(sampler=sampler))) == []


def test_nearest_ignores_case():
    assert nearest("SD15", ["xl", "sd15.ckpt", "other"])[0] == "sd15.ckpt"

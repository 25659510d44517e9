"""--set: any input of any node, by title, class or id; ambiguity is refused with candidates."""

import pytest

from client.errors import WorkflowError
from client.workflow.changes.options import Options, patch
from client.workflow.changes.overrides import nearest, with_settings
from client.workflow.graph import parse_workflow


def refusal(workflow, *settings):
    with pytest.raises(WorkflowError) as caught:
        with_settings(workflow, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("target", ["Steps", "BasicScheduler", "9"])
def test_title_class_and_id_all_name_the_node(workflow, target):
    assert with_settings(workflow, [f"{target}.denoise=0.5"]).graph["9"]["inputs"]["denoise"] == 0.5
    assert workflow.graph["9"]["inputs"]["denoise"] == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("true", True),
        ('"7"', "7"),
        ("a = b", "a = b"),
        ("", ""),
        ("{a|b}", "{a|b}"),
        ("[1]", [1]),
    ],
)
def test_a_value_is_json_else_text(workflow, text, value):
    assert with_settings(workflow, [f"9.denoise={text}"]).graph["9"]["inputs"]["denoise"] == value


def test_the_later_setting_wins_and_options_may_be_set_too(workflow):
    found = with_settings(workflow, ["Image size.width=640", "6.width=768", "8.sampler_name=heun"])
    assert found.option("width") == 768
    assert found.option("sampler") == "heun"


def test_titles_and_inputs_may_hold_dots(graph):
    graph["9"]["_meta"]["title"] = "Step v1.5"
    graph["9"]["inputs"]["resize.width"] = 3
    found = with_settings(parse_workflow(graph), ["Step v1.5.resize.width=4"])
    assert found.graph["9"]["inputs"]["resize.width"] == 4


def test_an_unknown_node_lists_the_nearest_first(workflow):
    message = refusal(workflow, "Stepps.denoise=1")
    assert "has no node with the id, title or class 'Stepps'; it has Steps, " in message


def test_an_unknown_input_lists_the_nearest_first(workflow):
    message = refusal(workflow, "Steps.denoize=1")
    assert "node 9 'Steps' (BasicScheduler) has no input 'denoize'; it has denoise, " in message


def test_two_nodes_of_a_title_are_both_listed_and_an_id_chooses(graph):
    graph["20"] = {
        "class_type": "KSamplerSelect",
        "inputs": {"sampler_name": "heun"},
        "_meta": {"title": "Sampler"},
    }
    workflow = parse_workflow(graph)
    message = refusal(workflow, "Sampler.sampler_name=ddim")
    assert (
        "could mean node 8 'Sampler' (KSamplerSelect), node 20 'Sampler' (KSamplerSelect)"
        in message
    )
    assert "as in '8.sampler_name'" in message
    assert (
        with_settings(workflow, ["20.sampler_name=ddim"]).graph["20"]["inputs"]["sampler_name"]
        == "ddim"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("Steps.denoise", "expected NODE.INPUT=VALUE"),
        ("denoise=1", "expected NODE.INPUT=VALUE"),
        ("Decode.vae=x", "takes 'vae' from node 1"),
        ("Batcher.batch_index=3", "the client itself sets 'batch_index'"),
        ("13.folder=elsewhere", "the client itself sets 'folder'"),
        ('Steps.denoise=["8", 0]', "is a link to another node"),
    ],
)
def test_what_is_no_setting_is_refused(workflow, setting, message):
    assert message in refusal(workflow, setting)


def test_an_option_without_a_node_of_its_class_goes_by_title(graph):
    graph["8"] = {
        "class_type": "PacksSampler",
        "inputs": {"sampler_name": "x"},
        "_meta": {"title": "Sampler"},
    }
    assert (
        patch(parse_workflow(graph), Options(sampler="heun")).graph["8"]["inputs"]["sampler_name"]
        == "heun"
    )


def test_an_option_without_a_node_names_the_nodes_with_such_an_input(graph):
    graph["8"] = {
        "class_type": "PacksSampler",
        "inputs": {"sampler_name": "x"},
        "_meta": {"title": "Mine"},
    }
    with pytest.raises(
        WorkflowError,
        match=r"nodes with such an input: node 8 'Mine'; choose with --set '8.sampler_name=...'",
    ):
        patch(parse_workflow(graph), Options(sampler="heun"))


def test_nearest_ignores_case():
    assert nearest("SD15", ["xl", "sd15.ckpt", "other"])[0] == "sd15.ckpt"

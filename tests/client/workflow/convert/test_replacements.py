"""Workflows that were saved with classes which are called otherwise today."""

import contextlib
import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import WorkflowError
from client.workflow.convert import convert

IMAGE = ["IMAGE", {}]
INFO = {
    "Source": {"input": {"required": {"width": ["INT", {"default": 64}]}}, "output": ["IMAGE"]},
    "Average": {
        "input": {"required": {"image": IMAGE, "strength": ["FLOAT", {"default": 1.0}]}},
        "output": ["IMAGE"],
    },
    "Resize": {
        "input": {
            "required": {
                "image": IMAGE,
                "largest_size": ["INT", {"default": 512}],
                "method": [["area", "lanczos"], {}],
            }
        },
        "output": ["IMAGE"],
    },
}
RENAMED = {
    "ResizeByEdge": [
        {
            "new_node_id": "Resize",
            "old_node_id": "ResizeByEdge",
            "old_widget_ids": ["longer_edge"],
            "input_mapping": [
                {"new_id": "image", "old_id": "images"},
                {"new_id": "largest_size", "old_id": "longer_edge"},
                {"new_id": "method", "set_value": "lanczos"},
            ],
            "output_mapping": [{"new_idx": 0, "old_idx": 0}],
        }
    ],
    "Mean": [{"new_node_id": "Average", "old_node_id": "Mean", "input_mapping": None}],
}
SOURCE = {"id": 1, "type": "Source", "widgets_values": [8], "outputs": [{"type": "IMAGE"}]}


def after_the_source(class_type, values, slot="image"):
    node = {
        "id": 2,
        "type": class_type,
        "widgets_values": values,
        "inputs": [{"name": slot, "type": "IMAGE", "link": 1}],
    }
    return {"nodes": [SOURCE, node], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}


def converted(workflow, renamed=RENAMED):
    return convert(workflow, INFO, source="w.json", replacements=lambda: renamed)


def test_a_class_whose_name_differs_by_a_space_is_the_same_class():
    found = converted(after_the_source("Average ", [0.5]), renamed={})
    assert found.graph["2"]["class_type"] == "Average"
    assert found.graph["2"]["inputs"] == {"strength": 0.5, "image": ["1", 0]}
    assert found.notes == ()


def test_a_class_with_another_name_keeps_inputs_and_values():
    found = converted(after_the_source("Mean", [0.25]))
    assert found.graph["2"]["class_type"] == "Average"
    assert found.graph["2"]["inputs"] == {"strength": 0.25, "image": ["1", 0]}
    assert found.notes == ("node 2: 'Mean' is called 'Average' today",)


def test_inputs_with_other_names_and_new_ones_are_sent_as_the_server_maps_them():
    found = converted(after_the_source("ResizeByEdge", [768], slot="images"))
    assert found.graph["2"]["class_type"] == "Resize"
    assert found.graph["2"]["inputs"] == {
        "image": ["1", 0],
        "largest_size": 768,
        "method": "lanczos",
    }


def test_values_without_a_list_of_old_widgets_belong_to_the_inputs_that_are_no_sockets():
    renamed = copy.deepcopy(RENAMED)
    renamed["ResizeByEdge"][0]["old_widget_ids"] = None
    found = converted(after_the_source("ResizeByEdge", [768], slot="images"), renamed)
    assert found.graph["2"]["inputs"]["largest_size"] == 768


def test_nodes_in_a_subgraph_are_replaced_too():
    inner = after_the_source("Mean", [0.25]) | {"id": "the-subgraph", "name": "inner"}
    workflow = {
        "nodes": [{"id": 9, "type": "the-subgraph"}],
        "links": [],
        "definitions": {"subgraphs": [inner]},
    }
    assert converted(workflow).graph["9:2"]["class_type"] == "Average"


@pytest.mark.parametrize(
    "renamed",
    [
        {},
        {"Mean": []},
        {"Mean": "Average"},
        {"Mean": [{"new_node_id": "NotHere"}]},
        {"Mean": [{"new_node_id": "Average", "output_mapping": [{"old_idx": 0, "new_idx": 1}]}]},
    ],
)
def test_a_class_without_a_usable_replacement_is_refused_by_name(renamed):
    with pytest.raises(WorkflowError, match="the server lacks Mean"):
        converted(after_the_source("Mean", [0.25]), renamed)


def test_the_server_is_asked_only_if_it_lacks_a_class():
    def never():
        raise AssertionError

    workflow = after_the_source("Average", [0.5])
    workflow["nodes"].append({"id": 3, "type": "Note", "widgets_values": ["hello"]})
    assert convert(workflow, INFO, replacements=never).notes == ()


def test_the_file_as_read_is_not_changed():
    workflow = after_the_source("ResizeByEdge", [768], slot="images")
    before = copy.deepcopy(workflow)
    converted(workflow)
    assert workflow == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3)
    ),
    max_leaves=8,
)
RULE = st.fixed_dictionaries(
    {"new_node_id": st.sampled_from(["Resize", "Average", "NotHere"]) | JSON},
    optional={
        "old_widget_ids": JSON,
        "input_mapping": st.lists(
            st.fixed_dictionaries({}, optional={"new_id": JSON, "old_id": JSON, "set_value": JSON})
            | JSON
        )
        | JSON,
        "output_mapping": JSON,
    },
)


@settings(max_examples=100, deadline=None)
@given(rules=st.lists(RULE, max_size=2) | JSON, values=JSON)
def test_whatever_a_server_lists_a_file_converts_or_is_refused(rules, values):
    with contextlib.suppress(WorkflowError):
        converted(after_the_source("Mean", values), {"Mean": rules})

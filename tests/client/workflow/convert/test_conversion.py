"""Editor format to API format, compared with what ComfyUI's own editor made in a browser.

The pairs in pairs/ were exported by export.py there (frontend 1.58.1); object_info.json holds the
classes that they use, as a real server describes them.

Covers: client.workflow.convert.editor, client.workflow.convert.promoted,
client.workflow.convert.widgets, client.workflow.convert.dependents.
"""

import contextlib
import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import WorkflowError
from client.workflow.convert import convert
from client.workflow.graph import parse_workflow
from client.workflow.loading import load_for
from tests.workflows.shipped import TITLES, api, editor, whole

HERE = Path(__file__).parent / "pairs"
OTHERS = ("object_info", "group_nodes")  # the latter: test_group_nodes.py
PAIRS = sorted(path.stem for path in HERE.glob("*.json") if path.stem not in OTHERS)
# What the editor exports although it cannot run; real servers drop it (tests/comfyui/test_convert).
LEFT_OUT = {
    "muted": {"5", "6", "7"},
    "bypassed": {"10", "25", "26"},
    "reroutes": {"10", "11"},
    "subgraph_modes": {"32"},
}
SUBGRAPH = "5c3f1a10-0000-4000-8000-000000000001"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def info(own_nodes):
    return read(HERE / "object_info.json") | own_nodes


def pair(name):
    return read(HERE / f"{name}.json")


def node(workflow, node_id):
    return next(each for each in workflow["nodes"] if each["id"] == node_id)


def refusal(workflow, info):
    with pytest.raises(WorkflowError) as caught:
        convert(workflow, info, source="w.json")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", PAIRS)
def test_a_workflow_converts_to_what_the_editor_exports(name, info):
    found, expected = convert(pair(name)["editor"], info), pair(name)["api"]
    assert found.graph == {
        key: value for key, value in expected.items() if key not in LEFT_OUT.get(name, ())
    }
    assert len(found.notes) == len(LEFT_OUT.get(name, ()))


@pytest.mark.parametrize("name", [name for name in PAIRS if "saved" in pair(name)])
def test_the_same_workflow_saved_anew_by_the_editor_converts_to_the_same(name, info):
    assert convert(pair(name)["saved"], info).graph == pair(name)["api"]


@pytest.mark.parametrize("name", TITLES)
def test_the_shipped_workflows_and_their_api_twins_are_one(name, info):
    assert whole(convert(read(editor(name)), info).graph) == read(api(name))


def test_what_needs_a_muted_node_is_left_out_and_named(info):
    notes = " ".join(convert(pair("muted")["editor"], info).notes)
    assert "node 6 'VAE Decode' is left out: nothing comes to its 'samples'" in notes
    assert "node 7 'Save Image'" in notes


def test_a_muted_or_bypassed_subgraph_inside_another_is_left_out_whole(info):
    workflow = pair("subgraph_nested")["editor"]
    nested = [
        each
        for each in workflow["definitions"]["subgraphs"][1]["nodes"]
        if each["type"] == SUBGRAPH
    ]
    nested[1]["mode"] = 2
    graph = convert(workflow, info).graph
    assert not any(key.startswith(f"2:{nested[1]['id']}:") for key in graph)
    assert any(key.startswith(f"2:{nested[0]['id']}:") for key in graph)


def test_values_saved_by_name_are_read_by_name(info):
    workflow = pair("widgets")["editor"]
    sampler = node(workflow, 5)
    names = (
        "seed",
        "control_after_generate",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "denoise",
    )
    sampler["widgets_values"] = dict(zip(names, sampler["widgets_values"], strict=True))
    assert convert(workflow, info).graph == pair("widgets")["api"]


def test_an_input_that_lost_its_widget_may_still_have_a_saved_value(info):
    info = copy.deepcopy(info)
    info["EmptyLatentImage"]["input"]["required"]["width"][1]["forceInput"] = True
    workflow = pair("widgets")["editor"]
    node(workflow, 4)["widgets_values"] = [640, 320, 2]
    assert convert(workflow, info).graph["4"]["inputs"] == {"height": 320, "batch_size": 2}


def test_a_widget_type_of_a_pack_is_known_by_the_files_own_inputs(info):
    info = copy.deepcopy(info)
    info["EmptyLatentImage"]["input"]["required"] |= {"odd": ["PACKS_OWN", {}]}
    info["EmptyLatentImage"]["input_order"]["required"].insert(1, "odd")
    workflow = pair("widgets")["editor"]
    node(workflow, 4)["widgets_values"] = [640, {"any": [1]}, 320, 2]
    node(workflow, 4)["inputs"].append(
        {"name": "odd", "type": "PACKS_OWN", "link": None, "widget": {"name": "odd"}}
    )
    expected = {"width": 640, "odd": {"any": [1]}, "height": 320, "batch_size": 2}
    assert convert(workflow, info).graph["4"]["inputs"] == expected


def test_a_list_is_wrapped_so_that_no_server_takes_it_for_a_link(info):
    workflow = pair("widgets")["editor"]
    node(workflow, 10)["widgets_values"] = [["5", 0]]
    assert convert(workflow, info).graph["10"]["inputs"]["filename_prefix"] == {
        "__value__": ["5", 0]
    }


def test_values_of_another_version_of_a_node_are_refused_not_shifted(info):
    workflow = pair("widgets")["editor"]
    node(workflow, 5)["widgets_values"].insert(2, "new widget")
    message = refusal(workflow, info)
    assert "node 5 'KSampler' has 8 saved values, the server's KSampler takes 7" in message
    assert "'new widget' is not a valid INT for 'steps'" in message


def test_random_choices_in_a_text_are_refused(info):
    workflow = pair("widgets")["editor"]
    node(workflow, 2)["widgets_values"] = ["a {red|blue} cat"]
    assert "node 2 'Positive': its text has random choices" in refusal(workflow, info)


def test_missing_node_classes_are_all_named(info):
    without = {name: each for name, each in info.items() if name not in ("KSampler", "VAEDecode")}
    message = refusal(pair("widgets")["editor"], without)
    assert "the server lacks KSampler, which node 5 'KSampler' is" in message
    assert "the server lacks VAEDecode" in message


def test_get_and_set_nodes_are_refused_by_name(info):
    workflow = pair("widgets")["editor"]
    node(workflow, 4)["type"] = "GetNode"
    assert "the server lacks GetNode, which node 4 'GetNode' is" in refusal(workflow, info)


def test_a_title_of_several_lines_is_named_in_one(info):
    workflow = pair("widgets")["editor"]
    node(workflow, 4).update(type="Gone", title="two\nlines " + "x" * 500)
    assert len(refusal(workflow, info)) < 400


def test_a_missing_class_that_is_muted_or_connected_to_nothing_does_not_matter(info):
    workflow = pair("widgets")["editor"]
    workflow["nodes"] += [{"id": 90, "type": "Gone", "mode": 2}, {"id": 91, "type": "Label (pack)"}]
    converted = convert(workflow, info)
    assert converted.graph == pair("widgets")["api"]
    assert converted.notes == (
        "node 91 'Label (pack)' is left out: the server lacks Label (pack), and nothing uses it",
    )


def test_a_missing_class_that_is_bypassed_passes_on_what_it_was_saved_with(info):
    without = {name: each for name, each in info.items() if name != "LoraLoader"}
    assert (
        convert(pair("bypassed")["editor"], without).graph
        == convert(pair("bypassed")["editor"], info).graph
    )


def test_a_subgraph_without_definition_is_refused_by_name(info):
    workflow = pair("subgraph")["editor"]
    node(workflow, 2)["title"] = "My part"
    del workflow["definitions"]
    assert "node 2 'My part' is a subgraph whose definition is not in the file" in refusal(
        workflow, info
    )


def test_a_subgraph_that_contains_itself_is_refused_by_name(info):
    workflow = pair("subgraph")["editor"]
    (definition,) = workflow["definitions"]["subgraphs"]
    definition["nodes"].append({"id": 999, "type": definition["id"], "inputs": [], "outputs": []})
    assert "the subgraph 'Encode both' contains itself" in refusal(workflow, info)
    outer = {
        **definition,
        "id": "outer",
        "name": "Outer",
        "nodes": [{"id": 1, "type": definition["id"]}],
    }
    workflow["definitions"]["subgraphs"].insert(0, outer)
    assert "the subgraph 'Encode both' contains itself" in refusal(workflow, info)


def test_subgraphs_that_multiply_without_end_are_refused(info):
    def level(number, inner):
        return {
            "id": f"s{number}",
            "name": f"s{number}",
            "nodes": [{"id": key, "type": inner} for key in range(10)],
        }

    definitions = [
        level(number, f"s{number + 1}" if number < 9 else "EmptyImage") for number in range(10)
    ]
    workflow = {
        "nodes": [{"id": 1, "type": "s0"}],
        "links": [],
        "definitions": {"subgraphs": definitions},
    }
    assert "more than 20000 nodes" in refusal(workflow, info)


def test_what_is_missing_inside_a_subgraph_is_named_with_it(info):
    workflow = pair("subgraph")["editor"]
    workflow["definitions"]["subgraphs"][0]["nodes"][0]["type"] = "Gone"
    assert "node 2:101 'Inner encode' in subgraph 'Encode both'" in refusal(workflow, info)


def test_reroutes_in_a_circle_are_refused(info):
    workflow = pair("reroutes")["editor"]
    for link in workflow["links"]:
        if link[3] == 2:  # the first reroute now takes from the second
            link[1:3] = [3, 0]
    assert "links form a cycle" in refusal(workflow, info)


def test_what_only_a_browser_can_fill_is_refused(info):
    info = copy.deepcopy(info)
    info["LoadImage"]["input"]["required"]["image"] = ["WEBCAM", {}]
    assert "node 8 'LoadImage': its input 'image' (WEBCAM) is filled by the browser" in refusal(
        pair("widgets")["editor"], info
    )


def image_with(info, name, kind, saved, **options):
    """The inputs of a LoadImage whose class has one more widget, after its file."""
    info = copy.deepcopy(info)
    info["LoadImage"]["input"]["required"] = {"image": [["a.png"], {}], name: [kind, options]}
    info["LoadImage"]["input_order"] = {"required": ["image", name]}
    loader = {"id": 1, "type": "LoadImage", "widgets_values": ["a.png", *saved]}
    return convert({"nodes": [loader], "links": []}, info).graph["1"]["inputs"]


@pytest.mark.parametrize(
    ("kind", "saved", "sent"),
    [
        ("COLORS", [["#fff"]], {"__value__": ["#fff"]}),
        ("COLORS", [], {"__value__": []}),
        ("BOUNDING_BOXES", [[{"x": 1}]], {"__value__": [{"x": 1}]}),
        ("BOUNDING_BOX", [{"x": 1}, 1, 0, 8, 8], {"x": 1}),
        ("BOUNDING_BOX", [], {"x": 0, "y": 0, "width": 512, "height": 512}),
        ("RANGE", [], {"min": 0, "max": 1}),
        ("COMPOSITOR", [{"layers": 2}], {"layers": 2}),
        ("PAINTER", ["drawn.png [input]"], "drawn.png [input]"),
        ("IMAGECOMPARE", [], {"__value__": ["", ""]}),
        ("IMAGECOMPARE", [{"before": "/api/view?filename=a"}], {"__value__": ["", ""]}),
    ],
)
def test_a_widget_of_any_kind_is_sent_as_the_browser_sends_it(info, kind, saved, sent):
    """What a browser (1.49.6) sent for core's nodes with such widgets."""
    assert image_with(info, "more", kind, saved) == {"image": "a.png", "more": sent}


def test_a_box_is_followed_by_the_numbers_of_its_sides(info):
    info = copy.deepcopy(info)
    info["LoadImage"]["input"]["required"]["crop"] = ["BOUNDING_BOX", {}]
    info["LoadImage"]["input"]["required"]["name"] = ["STRING", {}]
    info["LoadImage"]["input_order"]["required"] = ["crop", "name"]
    values = [{"x": 1}, 1, 0, 8, 8, "after it"]
    loader = {"id": 1, "type": "LoadImage", "widgets_values": values}
    inputs = convert({"nodes": [loader], "links": []}, info).graph["1"]["inputs"]
    assert inputs["name"] == "after it"


def test_a_camera_that_no_node_gives_is_not_sent(info):
    """An optional socket of 3D previews: the browser sends nothing for it."""
    assert image_with(info, "camera_info", "LOAD3D_CAMERA", []) == {"image": "a.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": [3]}, "an entry of its nodes has no id and type"),
        ({"nodes": [{"id": 1, "type": "A"}, {"id": 1, "type": "A"}]}, "two nodes have the id 1"),
        ({"links": [[1, 2]]}, "not a link"),
        ({"links": [[1, 2, "x", 3, 0, "A"]]}, "names no output or input number"),
        ({"nodes": None}, "not a workflow in editor format"),
        ({"nodes": []}, "has no node that a server runs"),
        ({"definitions": {"subgraphs": [4]}}, "a subgraph definition is not an object"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(info, change, message):
    assert message in refusal(pair("widgets")["editor"] | change, info)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def with_another_value(data, tree):
    """Puts any JSON value into any place of a tree of values."""
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if (
            not isinstance(place[key], (dict, list))
            or not place[key]
            or data.draw(st.integers(0, 4)) == 0
        ):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    return tree


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_a_server_says_of_its_nodes_a_file_converts_or_is_refused(info, data):
    used = {
        key: info[key]
        for key in ("KSampler", "EmptyLatentImage", "ResizeImageMaskNode", "LoadImage", "SaveImage")
    }
    described = with_another_value(data, copy.deepcopy(used))
    for name in ("widgets", "dynamic_inputs"):
        with contextlib.suppress(WorkflowError):
            parse_workflow(convert(pair(name)["editor"], {**info, **described}).graph)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_file_it_converts_or_is_refused(info, data):
    """No error other than WorkflowError, for any value anywhere in a workflow with subgraphs."""
    workflow = with_another_value(data, pair("subgraph_modes")["editor"])
    with contextlib.suppress(WorkflowError):
        parse_workflow(convert(workflow, info).graph)


def test_a_file_of_either_format_is_loaded_and_the_server_is_asked_for_editor_format_only(info):
    def asked():
        questions.append(1)
        return info

    questions = []
    as_it_is, _ = load_for(api("sd15_class_prompts"), asked)
    assert questions == []
    converted, notes = load_for(editor("sd15_class_prompts"), asked)
    assert (whole(converted.graph), notes, questions) == (as_it_is.graph, (), [1])


CHOICES = ["COMBO", {"multiselect": False, "options": []}]
CUSTOM_COMBO = {"input": {"required": {"choice": CHOICES}}, "output": ["STRING", "INT"]}
WRITER = {
    "input": {
        "required": {
            "prompt": ["STRING", {"default": ""}],
            "sampling": [
                "COMFY_DYNAMICCOMBO_V3",
                {"options": [{"key": "on", "inputs": {"required": {"seed": ["INT", {}]}}}]},
            ],
        },
        "optional": {
            "thinking": ["BOOLEAN", {"default": False}],
            "template": ["BOOLEAN", {"default": True}],
        },
    },
    "output": ["STRING"],
}


def alone(class_type, values, **more):
    """A workflow of one node."""
    return {"nodes": [{"id": 1, "type": class_type, "widgets_values": values, **more}], "links": []}


@pytest.mark.parametrize(
    "values",
    [
        ["second", 1, "first", "second", ""],
        ["second", "first", "second", ""],  # editors before the position was an output
        {"choice": "second", "index": 0, "option1": "first", "option2": "second", "option3": ""},
    ],
)
def test_a_custom_combo_is_sent_with_its_options_and_the_position_of_its_choice(values):
    graph = convert(alone("CustomCombo", values), {"CustomCombo": CUSTOM_COMBO}).graph
    assert graph["1"]["inputs"] == {
        "choice": "second",
        "index": 1,
        "option1": "first",
        "option2": "second",
        "option3": "",
    }


def test_a_custom_combo_whose_choice_is_none_of_its_options_has_position_minus_one():
    workflow = alone("CustomCombo", ["elsewhere", 0, "first", ""])
    graph = convert(workflow, {"CustomCombo": CUSTOM_COMBO}).graph
    assert graph["1"]["inputs"]["index"] == -1


def test_a_seed_inside_a_dynamic_choice_has_no_control_after_generate():
    """The editor adds one to inputs that are called "seed", and this one is "sampling.seed"."""
    graph = convert(alone("Writer", ["a cat", "on", 7, True, False]), {"Writer": WRITER}).graph
    assert graph["1"]["inputs"] == {
        "prompt": "a cat",
        "sampling": "on",
        "sampling.seed": 7,
        "thinking": True,
        "template": False,
    }


def test_a_widget_that_the_class_got_since_takes_its_default():
    graph = convert(alone("Writer", ["a cat", "on", 7, True]), {"Writer": WRITER}).graph
    assert graph["1"]["inputs"]["template"] is True

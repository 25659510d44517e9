"""Group nodes of older editors, compared with what such an editor made of them in a browser.

The pair group_nodes.json was exported by frontend 1.35.9; newer ones turn group nodes into
something else.
"""

import contextlib
import copy
import json
import time
from pathlib import Path

import pytest

from client.errors import WorkflowError
from client.workflow.convert import convert
from client.workflow.loading import load_for_plan

PAIRS = Path(__file__).parent / "pairs"
NAMES = ("group_nodes", "object_info")
INFO = {
    "Source": {"input": {}, "output": ["IMAGE", "MASK"]},
    "Noise": {
        "input": {
            "required": {"image": ["IMAGE", {}], "seed": ["INT", {}], "how": [["soft", "hard"], {}]}
        },
        "output": ["IMAGE"],
    },
    "Load": {
        "input": {"required": {"file": [["a.png", "b.png"], {"image_upload": True}]}},
        "output": ["IMAGE"],
    },
    "Text": {"input": {"required": {"text": ["STRING", {}]}}, "output": ["STRING"]},
    "Show": {"input": {"required": {"image": ["IMAGE", {}]}}, "output": []},
    # So many inputs that "10" comes before "2" as text.
    "Wide": {
        "input": {"required": {f"v{number}": ["INT", {}] for number in range(12)}},
        "output": ["INT"],
    },
}


def slot(name, kind="IMAGE", link=None, **rest):
    return {"name": name, "type": kind, "link": link, **rest}


def inside(kind, *slots, values=None, outputs=("IMAGE",), **rest):
    listed = [{"name": each, "type": each} for each in outputs]
    return {
        "type": kind,
        "inputs": list(slots),
        "outputs": listed,
        "widgets_values": values,
        **rest,
    }


def noise(*slots, **rest):
    return inside("Noise", slot("image"), *slots, values=[1, "fixed", "soft"], **rest)


def workflow(group, values, *slots, host="workflow>G", output=0, mode=0):
    """A source, the group node 2 with the source at its inputs, and what shows its output."""
    links = [[10 + number, 1, 0, 2, number, "IMAGE"] for number in range(len(slots))]
    inputs = [each | {"link": 10 + number} for number, each in enumerate(slots)]
    nodes = [
        {"id": 1, "type": "Source", "outputs": [{"type": "IMAGE"}, {"type": "MASK"}]},
        {"id": 2, "type": host, "inputs": inputs, "widgets_values": values, "mode": mode},
        {"id": 3, "type": "Show", "inputs": [slot("image", link=1)]},
    ]
    links.append([1, 2, output, 3, 0, "IMAGE"])
    return {"nodes": nodes, "links": links, "extra": {"groupNodes": {"G": group}}}


def inputs_of(value):
    graph = convert(value, INFO, source="w.json").graph
    return {key: each["inputs"] for key, each in graph.items() if key != "1"}


def refusal(value):
    with pytest.raises(WorkflowError) as caught:
        convert(value, INFO, source="w.json")
    return str(caught.value)


ONE = {"nodes": [noise()], "links": []}


def test_group_nodes_become_what_their_editor_made_of_them():
    """But it runs what is in a muted one, and loses a link to a reroute in one."""
    pair, info = (json.loads((PAIRS / f"{each}.json").read_text("utf-8")) for each in NAMES)
    expected = {key: each for key, each in pair["api"].items() if not key.startswith("7:")}
    assert "vae" not in expected["3:4"]["inputs"]
    expected["3:4"]["inputs"]["vae"] = ["1", 2]
    converted = convert(pair["editor"], info)
    assert converted.graph == expected
    assert converted.notes == ()


@pytest.mark.parametrize("host", ["workflow>G", "workflow/G"])
def test_a_group_node_gives_its_values_and_links_to_what_is_in_it(host):
    found = inputs_of(workflow(ONE, [7, "randomize", "hard"], slot("image"), host=host))
    assert found == {
        "2:0": {"image": ["1", 0], "seed": 7, "how": "hard"},
        "3": {"image": ["2:0", 0]},
    }


def test_inputs_of_one_name_are_told_apart_by_title_then_by_number():
    titles = (None, "B", "B", None, "B", "B")
    nodes = [noise(**({"title": title} if title else {})) for title in titles]
    group = {"nodes": nodes, "links": [[None, 0, 0, 0, 9, "IMAGE"], [0, 0, 1, 0, 1, "IMAGE"]]}
    values = [value for seed in range(6) for value in (seed, "fixed", "soft")]
    names = ("image", "B image", "Noise image", "B 2 image", "B 3 image")
    found = inputs_of(workflow(group, values, *map(slot, names)))
    assert [found[f"2:{number}"]["seed"] for number in range(6)] == [0, 1, 2, 3, 4, 5]
    sources = [found[f"2:{number}"]["image"][0] for number in range(6)]
    assert sources == ["1", "2:0", "1", "1", "1", "1"]


def test_an_input_may_have_another_name_by_the_user():
    group = {
        "nodes": [noise(), inside("Noise", slot("image", label="picture"))],
        "links": [],
        "config": {"0": {"input": {"image": {"name": "first"}, "how": {"visible": False}}}},
    }
    values = [1, "fixed", "soft", 2, "fixed", "hard"]
    found = inputs_of(workflow(group, values, slot("picture"), slot("first")))
    assert found["2:0"] == {"image": ["1", 0], "seed": 1, "how": "soft"}
    assert found["2:1"] == {"image": ["1", 0], "seed": 2, "how": "hard"}


def test_a_reroute_is_named_by_what_it_passes_on_unless_the_user_names_it():
    group = {
        "nodes": [inside("Reroute", slot("", "*"), outputs=["*"]), noise()],
        "links": [[0, 0, 1, 0, 1, "IMAGE"]],
        "config": {"0": {"input": {"IMAGE": {"name": "picture"}}}},
    }
    found = inputs_of(workflow(group, [7, "fixed", "hard"], slot("picture")))
    assert found["2:1"] == {"image": ["1", 0], "seed": 7, "how": "hard"}


def test_the_button_to_upload_a_file_has_a_value_too():
    load = inside("Load", values=["a.png", "image"])
    group = {"nodes": [load, noise()], "links": [[0, 0, 1, 0, 1, "IMAGE"]]}
    found = inputs_of(workflow(group, ["b.png", "image", 7, "fixed", "hard"]))
    assert found["2:0"] == {"file": "b.png"}
    assert found["2:1"] == {"image": ["2:0", 0], "seed": 7, "how": "hard"}


def test_a_link_to_a_widget_of_the_group_node_counts():
    seed = slot("seed", "INT", widget={"name": "seed"})
    for listed, values in (((), [5, "fixed", "hard"]), ((seed,), ["hard", 5, "fixed"])):
        group = {"nodes": [noise(*listed)], "links": []}
        found = inputs_of(workflow(group, values, slot("image"), seed))
        assert found["2:0"] == {"image": ["1", 0], "seed": ["1", 0], "how": "hard"}


def test_values_of_widgets_that_are_listed_as_inputs_come_last_and_in_text_order():
    names = [f"v{number}" for number in range(12)]
    listed = [slot(name, "INT", widget={"name": name}) for name in names]
    group = {"nodes": [inside("Wide", *listed, outputs=["INT"]), noise()], "links": []}
    order = [0, 1, 10, 11, *range(2, 10)]
    values = [9, "fixed", "hard", *[100 + number for number in order]]
    found = inputs_of(workflow(group, values, slot("image"), output=1))
    assert found["2:0"] == {name: 100 + number for number, name in enumerate(names)}
    assert found["2:1"]["seed"] == 9


def test_a_primitive_in_it_sets_the_widgets_it_is_linked_to():
    seed = slot("seed", "INT", widget={"name": "seed"})
    primitive = inside("PrimitiveNode", outputs=["INT"], values=[3, "fixed"], title="Luck")
    alone = inside("PrimitiveNode", outputs=["*"], values=[])
    group = {"nodes": [primitive, alone, noise(seed)], "links": [[0, 0, 2, 1, 1, "INT"]]}
    values = [8, "randomize", "hard"]
    found = inputs_of(workflow(group, values, slot("image")))
    assert found["2:2"] == {"image": ["1", 0], "seed": 8, "how": "hard"}
    found = inputs_of(workflow(group, values, slot("Luck value", "INT")))
    assert found["2:2"] == {"seed": ["1", 0], "how": "hard"}


def test_a_widget_whose_link_inside_comes_from_a_muted_node_keeps_its_own_value():
    seed = slot("seed", "INT", widget={"name": "seed"})
    muted = inside("Wide", outputs=["INT"], values=list(range(12)), mode=2)
    group = {"nodes": [muted, noise(seed)], "links": [[0, 0, 1, 1, 1, "INT"]]}
    found = inputs_of(workflow(group, [*range(12), "hard"], slot("image")))
    assert found["2:1"] == {"image": ["1", 0], "seed": 1, "how": "hard"}


def test_a_reroute_in_it_may_take_from_outside_give_to_outside_or_neither():
    reroute = inside("Reroute", slot("", "*"), outputs=[""])
    group = {
        "nodes": [reroute, noise(), copy.deepcopy(reroute), noise(), copy.deepcopy(reroute)],
        "links": [
            [0, 0, 1, 0, 1, "IMAGE"],
            [1, 0, 2, 0, 2, "IMAGE"],
            [2, 0, 3, 0, 3, "IMAGE"],
            [3, 0, 4, 0, 4, "IMAGE"],
        ],
    }
    values = [1, "fixed", "soft", 2, "fixed", "hard"]
    found = inputs_of(workflow(group, values, slot("IMAGE")))
    assert found == {
        "2:1": {"image": ["1", 0], "seed": 1, "how": "soft"},
        "2:3": {"image": ["2:1", 0], "seed": 2, "how": "hard"},
        "3": {"image": ["2:3", 0]},
    }


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ({}, "2:1"),  # the first node's output is used inside
        ({"external": [[0, 0, "IMAGE"]]}, "2:0"),
        ({"config": {"0": {"output": {"0": {"visible": True}}}}}, "2:0"),
    ],
)
def test_the_first_output_is_the_first_that_is_used_outside_or_not_hidden(extra, shown):
    group = {"nodes": [noise(), noise()], "links": [[0, 0, 1, 0, 1, "IMAGE"]]} | extra
    values = [1, "fixed", "soft", 2, "fixed", "hard"]
    assert inputs_of(workflow(group, values, slot("image")))["3"]["image"] == [shown, 0]


def test_a_reroute_that_is_used_inside_and_outside_is_an_output_too():
    reroute = inside("Reroute", slot("", "*"), outputs=[""])
    group = {
        "nodes": [noise(), reroute, noise()],
        "links": [[0, 0, 1, 0, 1, "IMAGE"], [1, 0, 2, 0, 2, "IMAGE"]],
        "external": [[1, 0, "IMAGE"]],
    }
    values = [1, "fixed", "soft", 2, "fixed", "hard"]
    for output, shown in enumerate(["2:0", "2:2"]):
        found = inputs_of(workflow(group, values, slot("image"), output=output))
        assert found["3"]["image"] == [shown, 0]


def test_a_group_node_without_saved_values_has_those_of_its_contents():
    found = inputs_of(workflow(ONE, None, slot("image")))
    assert found["2:0"] == {"image": ["1", 0], "seed": 1, "how": "soft"}


def test_text_in_a_group_node_is_sent_as_text_elsewhere_is():
    info = copy.deepcopy(INFO)
    info["Text"]["input"]["required"]["text"][1]["dynamicPrompts"] = True
    group = {"nodes": [inside("Text", values=["x"], outputs=["STRING"])], "links": []}
    graph = convert(workflow(group, ["a /* no */ cat"]), info).graph
    assert graph["2:0"]["inputs"] == {"text": "a  cat"}


def test_a_muted_group_node_is_left_out_and_a_bypassed_one_passes_its_input_on():
    value = workflow(ONE, [7, "fixed", "hard"], slot("image"), mode=4)
    value["nodes"][1]["outputs"] = [{"name": "IMAGE", "type": "IMAGE"}]
    assert inputs_of(value) == {"3": {"image": ["1", 0]}}
    value["nodes"][1]["mode"] = 2
    converted = convert(value, INFO)
    assert "2:0" not in converted.graph
    assert "3" not in converted.graph
    assert len(converted.notes) == 1
    value["extra"]["groupNodes"]["G"] = {"nodes": [inside("Gone")], "links": []}
    assert convert(value, INFO).graph == converted.graph


def test_a_class_that_is_called_otherwise_today_is_renamed_inside_too():
    group = {"nodes": [noise() | {"type": "Noise "}], "links": []}
    found = inputs_of(workflow(group, [7, "fixed", "hard"], slot("image")))
    assert found["2:0"] == {"image": ["1", 0], "seed": 7, "how": "hard"}


def test_values_for_other_widgets_than_those_inside_are_refused():
    found = refusal(workflow(ONE, [7, "hard"], slot("image")))
    assert "w.json: group node 2 'workflow>G' has 2 saved values" in found
    assert "take 3 on this server" in found


def test_a_link_to_an_input_that_nothing_inside_has_is_refused():
    found = refusal(workflow(ONE, [7, "fixed", "hard"], slot("picture")))
    assert "group node 2 'workflow>G': no node in it has the input 'picture'" in found


def test_contents_that_the_server_or_the_file_lacks_are_refused():
    group = {"nodes": [noise(), inside("Gone")], "links": []}
    assert "the server lacks Gone, which is in it" in refusal(workflow(group, []))
    assert "not an object with a list of nodes" in refusal(workflow(5, []))
    value = workflow(ONE, [], slot("image"), host="workflow>Other")
    assert "is a group node whose contents are not in the file" in refusal(value)


def test_values_that_fit_no_widget_inside_are_refused_with_the_group_node():
    group = {"nodes": [inside("Noise", slot("image"), values=["x", "fixed"])], "links": []}
    found = refusal(workflow(group, [7, "fixed", "hard"], slot("image")))
    assert "w.json: group node 2 'workflow>G': node 0 'Noise' has 2 saved values" in found


def test_a_plan_needs_nothing_of_what_is_in_a_group_node(tmp_path):
    value = workflow(ONE, [7, "hard"], slot("image"))
    (tmp_path / "w.json").write_text(json.dumps(value), encoding="utf-8")
    found = load_for_plan(tmp_path / "w.json", {})
    assert found.graph["2"]["class_type"] == "workflow>G"


MIXED = {
    "nodes": [
        inside("PrimitiveNode", outputs=["INT"], values=[3, "fixed"]),
        inside("Reroute", slot("", "*"), outputs=[""]),
        noise(slot("seed", "INT", widget={"name": "seed"})),
    ],
    "links": [[0, 0, 2, 1, 1, "INT"], [1, 0, 2, 0, 2, "IMAGE"]],
    "external": [[2, 0, "IMAGE"]],
    "config": {"2": {"input": {"how": {"name": "kind"}}}},
}
DAMAGES = (None, {}, "x", 99, [[1, 2]])


def places(value, path=()):
    """The path of every part of a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else parts:
        yield from places(part, (*path, key))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_contents_are_refused_or_converted_without_a_traceback(damage):
    sound = workflow(MIXED, [7, "fixed", "hard"], slot("IMAGE"))
    assert inputs_of(sound)["2:2"] == {"image": ["1", 0], "seed": 7, "how": "hard"}
    for path in list(places(MIXED))[1:]:
        value = copy.deepcopy(sound)
        part = value["extra"]["groupNodes"]["G"]
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = damage
        with contextlib.suppress(WorkflowError):
            convert(value, INFO)


def test_many_uses_of_a_large_group_are_refused_as_soon_as_they_are_too_many():
    group = {"nodes": [noise() for _ in range(1000)], "links": []}
    hosts = [{"id": number, "type": "workflow>G"} for number in range(1000)]
    value = {"nodes": hosts, "links": [], "extra": {"groupNodes": {"G": group}}}
    started = time.process_time()
    assert "more than 20000 nodes" in refusal(value)
    assert time.process_time() - started < 20  # without a limit: minutes

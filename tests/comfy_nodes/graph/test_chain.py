"""The chain names every node between the model files and the saver, in any graph, within bounds."""

import copy
import json
from pathlib import Path

import pytest

from comfy_nodes.graph.chain import LONGEST, chain_of, warning_of

GRAPH = json.loads(
    (Path(__file__).resolve().parents[3] / "workflows/api/sd15_class_prompts.json").read_text(
        "utf-8"
    )
)
SAVER = next(key for key, node in GRAPH.items() if "Saver" in node["class_type"])


def saver_of(**inputs):
    return {"class_type": "SynthGridLabelledImageSaver", "inputs": inputs}


def nodes_of(chain):
    return [next(iter(json.loads(entry).items())) for entry in chain]


def test_the_saved_workflow_has_every_node_but_those_whose_facts_the_record_has():
    nodes = nodes_of(chain_of(GRAPH, SAVER))
    kinds = [kind for kind, _ in nodes]
    left_out = {"SynthGridClassList", "SynthGridPromptTemplates", "SynthGridClassPromptBatcher"}
    assert sorted(kinds) == sorted({node["class_type"] for node in GRAPH.values()} - left_out)
    assert dict(nodes)["SynthGridPerImageNoise"] == {"batch": "@record"}
    assert dict(nodes)["BasicScheduler"] == {
        "denoise": 1.0,
        "model": f"@{kinds.index('CheckpointLoaderSimple')}.0",
        "scheduler": "normal",
        "steps": 20,
    }


def test_every_reference_is_to_an_entry_before_it():
    for place, (_, inputs) in enumerate(nodes_of(chain_of(GRAPH, SAVER))):
        for value in inputs.values():
            if isinstance(value, str) and value.startswith("@") and value != "@record":
                assert int(value[1:].split(".")[0]) < place


def test_of_the_saver_only_what_changes_pixels_is_kept():
    kind, inputs = nodes_of(chain_of(GRAPH, SAVER))[-1]
    assert kind == "SynthGridLabelledImageSaver"
    assert sorted(inputs) == ["format", "images", "quality"]


def test_it_depends_neither_on_ids_nor_on_their_order():
    ids = {node_id: f"9:{100 - int(node_id)}" for node_id in GRAPH}
    other = {}
    for node_id, node in reversed(GRAPH.items()):
        inputs = {
            name: [ids[value[0]], value[1]] if isinstance(value, list) else value
            for name, value in reversed(node["inputs"].items())
        }
        other[ids[node_id]] = {"class_type": node["class_type"], "inputs": inputs}
    assert chain_of(other, ids[SAVER]) == chain_of(GRAPH, SAVER)


def test_a_batch_does_not_change_it():
    other = copy.deepcopy(GRAPH)
    other["4"]["inputs"] |= {"batch_index": 7, "only": "57"}
    other[SAVER]["inputs"] |= {"folder": "elsewhere", "compress_level": 0}
    assert chain_of(other, SAVER) == chain_of(GRAPH, SAVER)


def test_nodes_that_do_not_lead_to_the_images_are_left_out():
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["12", 0]}}
    assert chain_of(GRAPH | {"99": preview}, SAVER) == chain_of(GRAPH, SAVER)


def test_typed_in_values_stay_apart_from_references():
    graph = {
        "1": {
            "class_type": "Odd ",
            "inputs": {"text": "@0.0", "pair": [1, 2], "no": None, "gone": ["7", 1]},
        },
        "2": saver_of(images=["1", 3]),
    }
    assert nodes_of(chain_of(graph, "2")) == [
        ("Odd ", {"gone": "@missing.1", "no": None, "pair": [1, 2], "text": "@@0.0"}),
        ("SynthGridLabelledImageSaver", {"images": "@0.3"}),
    ]


def test_what_json_or_utf8_cannot_hold_does_not_reach_it():
    graph = {"1": saver_of(images="\ud800", quality=float("nan"))}
    text = chain_of(graph, "1")[0]
    assert json.loads(text.encode("utf-8"), parse_constant=pytest.fail) == {
        "SynthGridLabelledImageSaver": {"images": "\ufffd", "quality": None}
    }


def test_a_chain_that_is_too_long_is_replaced_by_its_hash_and_the_user_is_told():
    graph = {
        "1": {"class_type": "Text", "inputs": {"text": "x" * (LONGEST - 200)}},
        "2": saver_of(images=["1", 0]),
    }
    assert len(chain_of(graph, "2")) == 2
    assert warning_of(chain_of(graph, "2")) is None
    graph["1"]["inputs"]["text"] = "x" * LONGEST
    (entry,) = chain_of(graph, "2")
    told = json.loads(entry)["@left out"]
    assert (told["nodes"], len(told["sha256"])) == (2, 64)
    assert "2 nodes" in warning_of([entry])
    graph["1"]["inputs"]["text"] = "y" * LONGEST
    assert json.loads(chain_of(graph, "2")[0])["@left out"]["sha256"] != told["sha256"]


def test_values_nested_too_deep_for_a_record_are_left_out():
    deep = []
    for _ in range(100):
        deep = [deep]
    graph = {"1": {"class_type": "Odd", "inputs": {"x": deep}}, "2": saver_of(images=["1", 0])}
    assert list(json.loads(chain_of(graph, "2")[0])) == ["@left out"]


def test_a_graph_of_ten_thousand_nodes_in_one_line_ends():
    graph = {
        str(number): {"class_type": "Next", "inputs": {"x": [str(number + 1), 0]}}
        for number in range(10_000)
    }
    graph["10000"] = {"class_type": "Next", "inputs": {"x": ["0", 0]}}  # a circle
    graph["saver"] = saver_of(images=["0", 0])
    assert json.loads(chain_of(graph, "saver")[0])["@left out"]["nodes"] == 10_002


@pytest.mark.parametrize("saver", [None, "77"])
def test_without_a_saver_in_the_graph_there_is_no_chain(saver):
    assert chain_of(GRAPH, saver) == []
    assert warning_of([]) is None

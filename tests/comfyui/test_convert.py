"""Conversion with a real server's /object_info, and how that server and its editor treat nodes."""

import json
from pathlib import Path

import pytest
import requests
from browser import CHROMIUM, opened

from client.server.server import ComfyServer
from client.workflow.convert import convert
from client.workflow.graph import parse_workflow
from client.workflow.preflight import validate

PAIRS = Path(__file__).resolve().parents[1] / "client" / "workflow" / "convert" / "pairs"
# Nodes whose values depend on the server alone: its choices, the images in its input folder.
NOTHING_SAVED = {"dynamic_inputs": "9", "widgets": "13"}


def read(name):
    return json.loads((PAIRS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def info(comfyui):
    return requests.get(f"{comfyui.url}/object_info", timeout=60).json()


def titled_like(info):
    """The stored description with this server's display titles, which differ by version."""
    return {
        name: each | {"display_name": info[name]["display_name"]}
        for name, each in read("object_info").items()
    }


def without(converted, node_id):
    return {key: each for key, each in converted.graph.items() if key != node_id}


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in PAIRS.glob("*.json") if path.stem != "object_info")
)
def test_with_the_servers_own_description_the_pairs_convert_as_with_the_stored_one(info, name):
    own, stored = (convert(read(name)["editor"], each) for each in (info, titled_like(info)))
    assert own.notes == stored.notes
    untouched = NOTHING_SAVED.get(name)
    assert without(own, untouched) == without(stored, untouched)


def test_a_node_without_saved_values_takes_the_defaults_of_the_server(info):
    """Of which 0.8.0 and 0.33.0 have different ones."""
    graph = convert(read("dynamic_inputs")["editor"], info).graph
    declared = info["ResizeImageMaskNode"]["input"]["required"]["resize_type"][1]
    first = declared["options"][0]
    taken = graph[NOTHING_SAVED["dynamic_inputs"]]["inputs"]
    assert taken["resize_type"] == first["key"]
    assert {f"resize_type.{name}" for name in first["inputs"]["required"]} <= set(taken)


@pytest.mark.parametrize(
    ("kind", "today", "values"),
    [
        ("ConditioningAverage ", "ConditioningAverage", [0.25]),
        ("ResizeImagesByLongerEdge", "ImageScaleToMaxDimension", [96]),
    ],
)
def test_a_class_with_an_older_name_converts_to_one_that_the_server_has(
    comfyui, info, kind, today, values
):
    workflow = {"nodes": [{"id": 1, "type": kind, "widgets_values": values}], "links": []}
    without = {name: each for name, each in info.items() if name != kind}
    with ComfyServer(comfyui.url) as server:
        replaced = server.node_replacements()
    if kind.strip() == today or replaced:
        graph = convert(workflow, without, replacements=lambda: replaced).graph
        assert graph["1"]["class_type"] == today
        assert values[0] in graph["1"]["inputs"].values()


def test_a_custom_combo_gives_the_position_of_its_choice_where_the_server_has_that(comfyui, info):
    outputs = info["CustomCombo"]["output"]
    combo = {"id": 1, "type": "CustomCombo", "widgets_values": ["c", 2, "a", "b", "c", ""]}
    shown = {"id": 2, "type": "PreviewAny", "inputs": [{"name": "source", "link": 1}]}
    link = [1, 1, len(outputs) - 1, 2, 0, "*"]
    graph = convert({"nodes": [combo, shown], "links": [link]}, info).graph
    validate(parse_workflow(graph), info)
    (text,) = comfyui.run(graph)["outputs"]["2"]["text"]
    assert text == ("2" if "INT" in outputs else "c")


def test_the_server_also_runs_only_what_does_not_need_the_muted_node(comfyui):
    """A small graph without sampling; a muted node leaves two of three outputs without input."""
    exported = read("muted")["api"]
    graph = {key: exported[key] for key in ("3", "8", "5")}
    answer = requests.post(f"{comfyui.url}/prompt", json={"prompt": graph}, timeout=30)
    assert answer.status_code == 200
    assert list(answer.json()["node_errors"]) == ["5"]
    assert "5" not in convert(read("muted")["editor"], read("object_info")).graph


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_editor_keeps_group_nodes_and_exports_them_as_in_the_pair_or_makes_subgraphs_of_them(
    comfyui, tmp_path
):
    pair = read("group_nodes")
    with opened(comfyui.url, tmp_path) as page:
        page.load(pair["editor"])
        version = page.js("window.__COMFYUI_FRONTEND_VERSION__")
        exported = page.js("app.graphToPrompt().then((made) => made.output)")
    if version == pair["frontend"]:
        assert exported == pair["api"]
    else:
        assert not exported.keys() & {"3:0", "7:0"}  # their values are mixed up, too

"""Conversion with a real server's /object_info, and how that server treats muted nodes."""

import json
from pathlib import Path

import pytest
import requests

from client.workflow.convert import convert

PAIRS = Path(__file__).resolve().parents[1] / "client" / "workflow" / "pairs"
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


def test_the_server_also_runs_only_what_does_not_need_the_muted_node(comfyui):
    """A small graph without sampling; a muted node leaves two of three outputs without input."""
    exported = read("muted")["api"]
    graph = {key: exported[key] for key in ("3", "8", "5")}
    answer = requests.post(f"{comfyui.url}/prompt", json={"prompt": graph}, timeout=30)
    assert answer.status_code == 200
    assert list(answer.json()["node_errors"]) == ["5"]
    assert "5" not in convert(read("muted")["editor"], read("object_info")).graph

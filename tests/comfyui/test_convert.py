"""Conversion with a real server's /object_info, and how that server treats muted nodes."""

import json
from pathlib import Path

import pytest
import requests

from client.workflow.convert import convert

PAIRS = Path(__file__).resolve().parents[1] / "client" / "workflow" / "pairs"


def read(name):
    return json.loads((PAIRS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def info(comfyui):
    return requests.get(f"{comfyui.url}/object_info", timeout=60).json()


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in PAIRS.glob("*.json") if path.stem != "object_info")
)
def test_with_the_servers_own_description_the_pairs_convert_as_with_the_stored_one(info, name):
    assert convert(read(name)["editor"], info) == convert(read(name)["editor"], read("object_info"))


def test_the_server_also_runs_only_what_does_not_need_the_muted_node(comfyui):
    """A small graph without sampling; a muted node leaves two of three outputs without input."""
    exported = read("muted")["api"]
    graph = {key: exported[key] for key in ("3", "8", "5")}
    answer = requests.post(f"{comfyui.url}/prompt", json={"prompt": graph}, timeout=30)
    assert answer.status_code == 200
    assert list(answer.json()["node_errors"]) == ["5"]
    assert "5" not in convert(read("muted")["editor"], read("object_info")).graph

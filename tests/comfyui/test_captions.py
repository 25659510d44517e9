"""Captions on a real ComfyUI: sent by the client, and read from a file by an artist's graph."""

import copy
import json
from pathlib import Path

import pytest
import requests
from PIL import Image
from sd15_checkpoint import NAME

from client.folder.verify import verify
from client.run.runner import run_plan
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from comfy_nodes.plan.captions import Captions
from tests.comfy_nodes.helpers import scanned_records

FOLDER = Path(__file__).resolve().parents[2] / "workflows" / "api"
PAIRS = [
    ("a {red|blue} __color__ bus", "bus"),
    ('蝙蝠 🦇, "at dusk"', "bat"),
    ("# a dog, asleep", "captions"),
    ("a very long caption, " * 30 + "the end", "captions"),
    ("a hen", "captions"),
]
HOW = {"checkpoint": NAME, "width": 64, "height": 64, "steps": 2, "batch_size": 4}


@pytest.fixture
def workflow():
    options = Options(captions=Captions(PAIRS), images_per_prompt=2, plan_seed=3, **HOW)
    return patch(load_workflow(FOLDER / "sd15_class_prompts.json"), options)


def rows(records):
    return {each.index: (each.prompt, each.label, each.seed) for each in records.values()}


def planned(workflow):
    return {row.index: (row.prompt, row.label, row.seed) for row in workflow.plan()}


def test_the_client_makes_captions_as_they_are_and_sends_a_batch_only_its_own(
    comfyui, workflow, tmp_path
):
    root = tmp_path / "syn"
    assert run_plan(workflow, comfyui.url, root).made == 10
    records = scanned_records(root)
    assert rows(records) == planned(workflow)
    assert verify(root).sound
    first = next(each for each in records.values() if each.index == 0)
    with Image.open(root / first.file_name) as image:
        sent = json.dumps(json.loads(image.text["prompt"]))
    assert "__color__" in sent
    assert "a hen" not in sent  # the fifth caption is not in the first batch of four


def test_a_graph_reads_a_file_of_the_input_folder_and_the_preview_counts_it(comfyui, workflow):
    lines = [json.dumps({"caption": c, "label": n}) + "\r\n" for c, n in PAIRS]
    (comfyui.base / "input" / "captions.jsonl").write_text("".join(lines), encoding="utf-8-sig")
    graph = copy.deepcopy(dict(workflow.graph))
    ids = {node["class_type"]: node_id for node_id, node in graph.items()}
    widgets = {"captions": "", "path": "captions.jsonl", "label": "", "negative_prompt": ""}
    graph[ids["SynthGridCaptions"]]["inputs"] = widgets
    graph[ids["SynthGridLabelledImageSaver"]]["inputs"]["folder"] = "from a file"
    batcher = graph[ids["SynthGridClassPromptBatcher"]]["inputs"]
    for batch_index in range(3):
        batcher["batch_index"] = batch_index
        comfyui.run(graph)
    assert rows(scanned_records(comfyui.base / "output" / "from a file")) == planned(workflow)
    values = {
        name: value for name, value in batcher.items() if name not in ("classes", "templates")
    }
    asked = {"captions": widgets, "batcher": values, "folder": "from a file"}
    answer = requests.post(f"{comfyui.url}/synthgrid/preview", json=asked, timeout=30).json()
    assert (answer["captions"], answer["images"], answer["batches"]) == (5, 10, 3)
    assert answer["done"] == answer["planned"] == {"bus": 2, "bat": 2, "captions": 6}


@pytest.mark.parametrize("path", ["../captions.txt", "/etc/hostname", "none.txt"])
def test_a_file_that_cannot_be_read_is_refused_before_anything_runs(comfyui, workflow, path):
    graph = workflow.for_batch(0, folder="refused")
    (node,) = (node for node in graph.values() if node["class_type"] == "SynthGridCaptions")
    node["inputs"] |= {"path": path, "part": ""}
    answer = requests.post(f"{comfyui.url}/prompt", json={"prompt": graph}, timeout=30)
    assert answer.status_code == 400
    assert "SynthGridCaptions" in answer.text

"""What artists see in their browser: a finished plan, an interrupted one, three image formats."""

import copy
import json
from pathlib import Path

import pytest
import requests
from PIL import Image
from sd15_checkpoint import NAME

from comfy_nodes.labelset import read_record
from tests.comfy_nodes.helpers import scanned_records

GRAPH = json.loads(
    (Path(__file__).resolve().parents[2] / "workflows/api/sd15_class_prompts.json").read_text(
        "utf-8"
    )
)
IDS = {node["class_type"]: node_id for node_id, node in GRAPH.items()}
BATCHER, SAVER = IDS["SynthGridClassPromptBatcher"], IDS["SynthGridLabelledImageSaver"]


def graph(*, batcher=None, saver=None):
    """Two classes of three images in two batches of four and two, 64 x 64, one step."""
    changed = copy.deepcopy(GRAPH)
    changed[IDS["CheckpointLoaderSimple"]]["inputs"]["ckpt_name"] = NAME
    changed[IDS["SynthGridBatchLatent"]]["inputs"] |= {"width": 64, "height": 64}
    changed[IDS["BasicScheduler"]]["inputs"]["steps"] = 1
    changed[IDS["SynthGridClassList"]]["inputs"]["classes"] = "bat\n蝙蝠"
    changed[BATCHER]["inputs"] |= {"images_per_class": 3, "batch_size": 4} | (batcher or {})
    changed[SAVER]["inputs"] |= saver or {}
    return changed


def run(comfyui, **changes):
    """(the batcher's text, None if cached; the saver's output, None if skipped); nothing failed."""
    entry = comfyui.run(graph(**changes))
    assert entry["status"]["status_str"] == "success", entry["status"]
    return entry["outputs"].get(BATCHER, {}).get("text", [None])[0], entry["outputs"].get(SAVER)


def test_past_the_last_batch_nothing_fails_and_nothing_is_sampled(comfyui):
    text, saved = run(comfyui, batcher={"batch_index": 2}, saver={"folder": "finished"})
    assert text.startswith("batch_index 2 is past the last batch (the plan has 2,")
    assert saved is None
    assert not (comfyui.base / "output" / "finished").exists()


def test_an_interrupted_run_is_finished_by_queueing_it_again(comfyui):
    saver = {"folder": "again/animals"}
    resume = {"resume_folder": "again/animals"}
    root = comfyui.base / "output" / "again" / "animals"
    run(comfyui, saver=saver)
    gone = sorted(root.glob("*/*-000001.png"))
    before = {path: path.read_bytes() for path in root.glob("*/*")}
    gone[0].unlink()
    text, saved = run(comfyui, batcher=resume, saver=saver)
    assert text == "batch 1 of 2: 蝙蝠 x1 (3 already exist)"
    assert [record["index"] for record in saved["synthgrid_records"]] == [1]
    text, saved = run(comfyui, batcher=resume, saver=saver)
    assert (text, saved) == ("batch 1 of 2: all 4 images already exist in 'again/animals'", None)
    run(comfyui, batcher=resume | {"batch_index": 1}, saver=saver)
    assert sorted(index for _, index in scanned_records(root)) == list(range(6))
    assert all(path.read_bytes() == data for path, data in before.items() if path not in gone)


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        ("SynthGridClassList", {"classes": "bat\nbat"}, "named more than once: 'bat'"),
        ("SynthGridPromptTemplates", {"templates": "a {clas}"}, "unknown placeholder '{clas}'"),
        ("SynthGridPromptTemplates", {"templates": "a {class}, {definition}"}, "have none: 'bat'"),
    ],
)
def test_classes_and_templates_that_make_no_plan_are_refused_before_queueing(
    comfyui, node, values, words
):
    changed = graph()
    changed[IDS[node]]["inputs"] |= values
    answer = requests.post(f"{comfyui.url}/prompt", json={"prompt": changed}, timeout=30)
    assert answer.status_code == 400
    errors = answer.json()["node_errors"][IDS[node]]["errors"]
    assert all(words in error["details"] for error in errors)


@pytest.mark.parametrize(("name", "suffix"), [("PNG", ".png"), ("WebP", ".webp"), ("JPEG", ".jpg")])
def test_each_format_holds_record_and_graph(comfyui, name, suffix):
    changes = {"saver": {"folder": f"formats-{name}", "format": name, "quality": 90}}
    _, saved = run(comfyui, **changes)
    assert len(saved["images"]) == 4
    for place, values in zip(saved["images"], saved["synthgrid_records"], strict=True):
        path = comfyui.base / "output" / place["subfolder"] / place["filename"]
        assert path.suffix == suffix
        record = read_record(path.read_bytes())
        assert (record.prompt, record.seed, record.sha256) == (
            values["prompt"],
            values["seed"],
            values["sha256"],
        )
        with Image.open(path) as image:
            text = (
                image.text["prompt"]
                if name == "PNG"
                else image.getexif()[0x0110].removeprefix("prompt:")
            )
        assert json.loads(text) == graph(**changes)


def test_a_try_makes_one_of_each_once_and_again_after_another_template(comfyui):
    saver = {"folder": "tried"}
    tried = {"try_one_of_each": True}
    text, saved = run(comfyui, batcher=tried, saver=saver)
    assert text == "one image of each class, batch 1 of 1: bat x1, 蝙蝠 x1"
    assert [record["index"] for record in saved["synthgrid_records"]] == [0, 1]
    text, saved = run(comfyui, batcher=tried | {"batch_index": 1}, saver=saver)
    assert "all 2 images already exist in 'tried'; if you like them" in text
    assert saved is None
    changed = graph(batcher=tried | {"batch_index": 2}, saver=saver)
    changed[IDS["SynthGridPromptTemplates"]]["inputs"]["templates"] = "a drawing of a {class}"
    saved = comfyui.run(changed)["outputs"][SAVER]
    assert [record["prompt"] for record in saved["synthgrid_records"]] == [
        "a drawing of a bat",
        "a drawing of a 蝙蝠",
    ]
    text, saved = run(comfyui, batcher={"resume_folder": "tried"}, saver=saver)
    assert text.endswith("(2 already exist)")
    assert [record["index"] for record in saved["synthgrid_records"]] == [2, 3]

"""Every saved workflow runs unchanged, through the client, into a labelled folder."""

import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sd15_checkpoint import NAME

from client.run.runner import run_plan
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from comfy_nodes.banks.prompt_bank import read_prompt_bank
from comfy_nodes.labelset import folder_name, read_record, sha256
from comfy_nodes.plan import ClassEntry
from comfy_nodes.plan.captions import parse_captions
from tests.comfy_nodes.helpers import scanned_records
from tests.workflows.shipped import WITH_A_PLAN, WITH_CAPTIONS

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parents[2] / "workflows" / "api"
CLASSES = (  # each with a definition, which a template may ask for
    ClassEntry("badger", "a burrowing animal"),
    ClassEntry("a/b", "a letter, or another"),
    ClassEntry("蝙蝠", "a flying mammal"),
)


def patched(name, **more):
    """The shipped workflow for nine images."""
    options = {"classes": CLASSES, "images_per_class": 3}
    if name in WITH_CAPTIONS:
        options = {"captions": parse_captions("a bat\n{a|b} bear\na bee"), "images_per_prompt": 3}
    options |= dict(
        batch_size=4,
        checkpoint=NAME,
        width=64,
        height=64,
        steps=2,
    )
    return patch(load_workflow(FOLDER / f"{name}.json"), Options(**(options | more)))


@pytest.fixture
def real_images(comfyui):
    """A folder of class folders in the server's input folder: two random images per class."""
    for label in CLASSES:
        folder = comfyui.base / "input" / "real" / folder_name(label.name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.effect_noise((90, 70), 60 + 40 * number).convert("RGB").save(
                folder / f"photo {number}.jpg"
            )
    return comfyui.base / "input" / "real"


@pytest.fixture(scope="module")
def lora(comfyui):
    """A LoRA on one attention layer of each model, under the name that the workflows have."""
    path = comfyui.base / "models" / "loras" / "add_detail.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    layers = {
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v": (320, 768),
        "lora_te_text_model_encoder_layers_3_self_attn_v_proj": (768, 768),
    }
    tensors = {}
    for layer, (rows, columns) in layers.items():
        # As small as the weights themselves, so that twice the strength is about twice the change.
        tensors[f"{layer}.lora_up.weight"] = 0.03 * torch.randn(rows, 2, generator=generator)
        tensors[f"{layer}.lora_down.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return path


@pytest.mark.usefixtures("real_images", "lora")
@pytest.mark.parametrize("name", WITH_A_PLAN)
def test_a_workflow_runs_headless_into_a_labelled_folder(comfyui, name, tmp_path):
    workflow = patched(name)
    summary = run_plan(workflow, comfyui.url, tmp_path / "out")
    records = scanned_records(tmp_path / "out")
    assert (summary.made, len(records)) == (9, 9)
    for spec in workflow.plan():
        record = records[(workflow.plan().plan_id, spec.index)]
        assert (record.label, record.prompt, record.seed) == (spec.label, spec.prompt, spec.seed)
        assert record.settings["checkpoint"] == NAME
        assert read_record((tmp_path / "out" / record.file_name).read_bytes()) == record


@pytest.mark.usefixtures("real_images")
@pytest.mark.parametrize(
    ("name", "without"),
    [("sd15_lora", "sd15_class_prompts"), ("sd15_lora_from_real_images", "sd15_from_real_images")],
)
def test_a_lora_moves_images_by_its_strength_and_the_record_names_both(
    comfyui, lora, name, without, tmp_path
):
    """At strength 0 the images are those of the same workflow without a LoRA."""
    made = {}
    for case, strength in (("off", 0.0), ("half", 0.4), ("full", 0.8)):
        workflow = patched(name)
        node = next(
            key for key, each in workflow.graph.items() if each["class_type"] == "LoraLoader"
        )
        values = {(node, each): strength for each in ("strength_model", "strength_clip")}
        run_plan(workflow.with_values(values), comfyui.url, tmp_path / case)
        made[case] = scanned_records(tmp_path / case)
        for record in made[case].values():
            assert record.settings["lora"] == "add_detail.safetensors"
            assert record.settings["lora_strength"] == strength
            assert record.settings["lora_strength_clip"] == strength
            line = f"loras/add_detail.safetensors sha256:{sha256(lora.read_bytes())}"
            assert any(each.startswith(line) for each in record.settings["files"])
    run_plan(patched(without), comfyui.url, tmp_path / "without")
    plain = by_index(tmp_path / "without", scanned_records(tmp_path / "without"))
    images = {case: by_index(tmp_path / case, records) for case, records in made.items()}
    for index, image in plain.items():
        distances = {case: np.abs(images[case][index] - image).mean() for case in images}
        assert distances["off"] == 0
        assert 0 < distances["half"] < distances["full"]


def by_index(folder, records):
    return {index: pixels(folder / record.file_name) for (_, index), record in records.items()}


def test_text_becomes_a_bank_that_prompt_templates_read(comfyui):
    graph = json.loads((FOLDER / "bank_from_text.json").read_text(encoding="utf-8"))
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]
    saved = comfyui.base / "output" / "synthgrid" / "bank.json"
    bank = read_prompt_bank(saved)
    assert {name: len(each.contexts) for name, each in bank.classes.items()} == {
        "crane": 6,
        "seal": 6,
    }
    assert entry["outputs"]["5"]["text"] == [saved.read_text(encoding="utf-8")]
    assert "crane: 6 contexts, 3 styles" in entry["outputs"]["4"]["text"][0]
    comfyui.run(graph)  # the same bank again is no other bank
    graph["1"]["inputs"]["classes"] = "crane\nseal"
    refused = comfyui.run(graph)
    assert "turn overwrite on" in json.dumps(refused["status"])
    assert read_prompt_bank(saved) == bank


def test_an_image_from_a_real_one_is_the_same_alone_and_its_record_names_the_real_one(
    comfyui, real_images, tmp_path
):
    """Strength decides how far it moves away from the real image; the batch size has no effect."""
    whole, alone = (
        patched("sd15_from_real_images", batch_size=size, strength=0.4) for size in (9, 1)
    )
    run_plan(whole, comfyui.url, tmp_path / "whole")
    run_plan(alone, comfyui.url, tmp_path / "alone")
    records = scanned_records(tmp_path / "alone")
    for key, record in scanned_records(tmp_path / "whole").items():
        assert (record.source_image, record.settings["denoise"]) == (records[key].source_image, 0.4)
        assert record.source_image.startswith(f"{folder_name(record.label)}/photo ")
        assert record.source_sha256 == sha256((real_images / record.source_image).read_bytes())
        batched, single = (
            pixels(tmp_path / name / record.file_name) for name in ("whole", "alone")
        )
        assert np.abs(batched - single).max() <= 1  # of 255: both are rounded


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_more_images_per_class_keeps_existing_images(comfyui, tmp_path):
    run_plan(patched("sd15_class_prompts"), comfyui.url, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert (
        run_plan(patched("sd15_class_prompts", images_per_class=5), comfyui.url, tmp_path).made == 6
    )
    assert all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.slow
def test_a_plan_of_2700_images_loses_and_repeats_none_and_memory_stays_flat(comfyui, tmp_path):
    """90 classes x 30 images in batches of 8: 338 queued prompts."""
    classes = tuple(ClassEntry(f"class {number}") for number in range(90))
    workflow = patched(
        "sd15_class_prompts", classes=classes, images_per_class=30, batch_size=8, steps=1
    )
    memory = []
    started = time.monotonic()

    def watch(progress):
        if progress.made % 100 == 0 and len(memory) <= progress.made // 100:
            memory.append(comfyui.memory() // 2**20)
            log.info(
                "%d images after %.0f s, %d MiB",
                progress.made,
                time.monotonic() - started,
                memory[-1],
            )

    run_plan(workflow, comfyui.url, tmp_path, on_progress=watch)
    log.info("whole run: %.0f s, MiB every 100 images: %s", time.monotonic() - started, memory)
    records = scanned_records(tmp_path)
    assert sorted(index for _, index in records) == list(range(2700))
    assert (
        len({record.sha256 for record in records.values()})
        == len(list(tmp_path.rglob("*.png")))
        == 2700
    )
    warm = memory[len(memory) // 4 :]
    assert max(warm) < 1.1 * min(warm), memory


@pytest.mark.usefixtures("real_images")
@pytest.mark.parametrize("name", ["sd15_from_real_images", "sd15_lora_from_real_images"])
def test_rows_of_several_strengths_are_those_of_plans_of_one_strength(
    comfyui, lora, name, tmp_path
):
    """A plan with strengths has the seeds and prompts of one without."""
    strengths = (0.3, 0.8)
    mixed = patched(name, images_per_class=2, batch_size=6, strengths=strengths)
    assert run_plan(mixed, comfyui.url, tmp_path / "mixed").made == 6
    records = scanned_records(tmp_path / "mixed")
    assert {record.strength for record in records.values()} == set(strengths)
    images = by_index(tmp_path / "mixed", records)
    plain = {}
    for strength in strengths:
        folder = tmp_path / str(strength)
        run_plan(patched(name, images_per_class=2, strength=strength), comfyui.url, folder)
        plain[strength] = by_index(folder, scanned_records(folder))
    for (_, index), record in records.items():
        right, wrong = (
            np.abs(images[index] - plain[each][index]).max()
            for each in sorted(strengths, key=lambda each: each != record.strength)
        )
        assert right <= 1 < wrong  # of 255: both are rounded

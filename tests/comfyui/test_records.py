"""A record is enough: its image is made again from it alone, with stock nodes, one at a time."""

import copy
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sd15_checkpoint import NAME, TEXT, WIDTH
from test_rows import GRAPH

LORA = "synthgrid-test-lora.safetensors"
IDS = {node["class_type"]: node_id for node_id, node in GRAPH.items()}


def write_lora(path):
    """A LoRA on one attention layer of the UNet and one of the text encoder."""
    generator = torch.Generator().manual_seed(1)
    unet = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_q"
    text = "lora_te_text_model_encoder_layers_3_self_attn_q_proj"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            f"{name}.lora_{part}.weight": torch.randn(shape, generator=generator)
            for name, width in ((unet, WIDTH), (text, TEXT))
            for part, shape in (("down", (4, width)), ("up", (width, 4)))
        },
        path,
    )


def with_lora_and_second_pass(batch_index):
    """Our workflow with a LoRA, clip skip, and a second pass at half as large again."""
    graph = copy.deepcopy(GRAPH)
    lora = {"model": ["1", 0], "clip": ["1", 1], "lora_name": LORA}
    lora |= {"strength_model": 0.8, "strength_clip": 0.6}
    skip = {"clip": ["lora", 1], "stop_at_clip_layer": -2}
    first = graph[IDS["SamplerCustomAdvanced"]]["inputs"]
    sigmas = {"model": ["lora", 0], "scheduler": "karras", "steps": 2, "denoise": 0.55}
    larger = {"samples": [IDS["SamplerCustomAdvanced"], 0], "upscale_method": "bilinear"}
    graph |= {
        "lora": {"class_type": "LoraLoader", "inputs": lora},
        "skip": {"class_type": "CLIPSetLastLayer", "inputs": skip},
        "larger": {"class_type": "LatentUpscaleBy", "inputs": larger | {"scale_by": 1.5}},
        "sigmas": {"class_type": "BasicScheduler", "inputs": sigmas},
        "second": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": first | {"latent_image": ["larger", 0], "sigmas": ["sigmas", 0]},
        },
    }
    graph[IDS["CheckpointLoaderSimple"]]["inputs"]["ckpt_name"] = NAME
    graph[IDS["BasicScheduler"]]["inputs"] |= {"model": ["lora", 0], "steps": 3}
    graph[IDS["CFGGuider"]]["inputs"] |= {"model": ["lora", 0], "cfg": 3.0}
    graph[IDS["SynthGridEncodeClassPrompts"]]["inputs"]["clip"] = ["skip", 0]
    graph[IDS["SynthGridBatchLatent"]]["inputs"] |= {"width": 64, "height": 64}
    graph[IDS["SynthGridClassPromptBatcher"]]["inputs"] |= {
        "images_per_class": 2,
        "batch_size": 5,
        "batch_index": batch_index,
    }
    graph[IDS["VAEDecode"]]["inputs"]["samples"] = ["second", 0]
    graph[IDS["SynthGridLabelledImageSaver"]]["inputs"]["folder"] = "records"
    return graph


def stock_graph(record):
    """What the record says, with our nodes replaced by their stock counterparts for one image."""
    chain = [json.loads(entry) for entry in record["settings"]["chain"]]
    kinds = [next(iter(entry)) for entry in chain]

    def value_of(value):
        if not isinstance(value, str) or not value.startswith("@"):
            return value
        if value.startswith("@@"):
            return value[1:]
        place, slot = map(int, value[1:].split("."))
        if kinds[place] == "SynthGridEncodeClassPrompts":
            return [f"{place} {('positive', 'negative')[slot]}", 0]
        return [str(place), slot]

    graph = {}
    for place, (kind, entry) in enumerate(zip(kinds, chain, strict=True)):
        inputs = {
            name: value_of(value) for name, value in entry[kind].items() if value != "@record"
        }
        if kind == "SynthGridEncodeClassPrompts":
            texts = {"positive": record["prompt"], "negative": record["negative_prompt"]}
            for which, text in texts.items():
                node = {"class_type": "CLIPTextEncode", "inputs": inputs | {"text": text}}
                graph[f"{place} {which}"] = node
            continue
        if kind == "SynthGridBatchLatent":
            kind, inputs = "EmptyLatentImage", inputs | {"batch_size": 1}
        elif kind == "SynthGridPerImageNoise":
            kind, inputs = "RandomNoise", {"noise_seed": record["seed"]}
        elif kind == "SynthGridLabelledImageSaver":
            kind, inputs = "SaveImage", {"images": inputs["images"], "filename_prefix": "again"}
        graph[str(place)] = {"class_type": kind, "inputs": inputs}
    return graph


@pytest.fixture(scope="module")
def records(comfyui):
    write_lora(comfyui.base / "models" / "loras" / LORA)
    for batch_index in (0, 1):
        entry = comfyui.run(with_lora_and_second_pass(batch_index), timeout_s=400)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    text = (comfyui.base / "output" / "records" / "metadata.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def made_again(comfyui, record, change=lambda graph: graph):
    graph = change(stock_graph(record))
    assert not any(node["class_type"].startswith("SynthGrid") for node in graph.values())
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    (image,) = next(each["images"] for each in entry["outputs"].values() if "images" in each)
    return pixels(comfyui.base / "output" / image["subfolder"] / image["filename"])


def test_ten_images_are_made_again_from_their_records_alone(comfyui, records):
    assert len(records) == 10
    for record in records:
        original = pixels(comfyui.base / "output" / "records" / record["file_name"])
        again = made_again(comfyui, record)
        assert original.shape == again.shape == (96, 96, 3)
        difference = np.abs(original - again)
        assert difference.max() <= 1, record["file_name"]
        assert (difference > 0).mean() < 0.001, record["file_name"]


@pytest.mark.parametrize(
    ("kind", "name", "other"),
    [
        ("LoraLoader", "strength_model", 0.0),
        ("LoraLoader", "strength_clip", 0.0),
        ("CLIPSetLastLayer", "stop_at_clip_layer", -1),
        ("BasicScheduler", "denoise", 0.9),
        ("LatentUpscaleBy", "upscale_method", "nearest-exact"),
    ],
)
def test_each_recorded_value_matters(comfyui, records, kind, name, other):
    """Otherwise the test above would also pass without it in the record."""

    def change(graph):
        last = [node for node in graph.values() if node["class_type"] == kind][-1]
        assert last["inputs"][name] != other
        last["inputs"][name] = other
        return graph

    original = pixels(comfyui.base / "output" / "records" / records[0]["file_name"])
    assert np.abs(original - made_again(comfyui, records[0], change)).max() > 1


def test_model_files_are_named_with_their_hashes_and_a1111_finds_them(comfyui, records):
    models = comfyui.base / "models"
    checkpoint = hashlib.sha256((models / "checkpoints" / NAME).read_bytes()).hexdigest()
    lora = (models / "loras" / LORA).read_bytes()
    weights = lora[8 + int.from_bytes(lora[:8], "little") :]
    short = hashlib.sha256(weights).hexdigest()[:12]
    for record in records:
        assert record["settings"]["files"] == [
            f"checkpoints/{NAME} sha256:{checkpoint}",
            f"loras/{LORA} sha256:{hashlib.sha256(lora).hexdigest()} autov3:{short}",
        ]
        with Image.open(comfyui.base / "output" / "records" / record["file_name"]) as image:
            text = image.text["parameters"]
        assert f"Model hash: {checkpoint[:10]}, Model: synthgrid-test" in text
        assert f'Denoising strength: 0.55, Clip skip: 2, Hires steps: 2, Lora hashes: "{LORA[:-12]}'
        assert f': {short}"' in text


def test_the_card_lists_model_files_and_nodes(comfyui, records):
    card = (comfyui.base / "output" / "records" / "README.md").read_text("utf-8")
    assert f"  - file `checkpoints/{NAME} sha256:" in card
    assert '`{"CLIPSetLastLayer": {"clip": "@' in card

"""Adapted workflows on a real ComfyUI: every image is what the stock workflow makes alone."""

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from safetensors.torch import save_file
from sd15_checkpoint import NAME, write_checkpoint

from client.run.runner import run_plan
from client.server.server import ComfyServer
from client.workflow.graph import parse_workflow
from client.workflow.preflight import validate
from client.workflow.stock.adapt import adapt
from comfy_nodes.plan import ClassEntry
from tests.client.workflow import stock_graphs
from tests.comfy_nodes.helpers import scanned_records

LORA, REFINER = "synthgrid-test-lora.safetensors", "synthgrid-test-2.ckpt"
VARIANTS = {
    "default": {},
    "custom_advanced": {},
    "hires": {},
    "with_lora": {"name": LORA},
    "base_and_refiner": {"refiner": REFINER},
}
CLASSES = (ClassEntry("badger"), ClassEntry("bat"))


@pytest.fixture(scope="module")
def models(comfyui):
    """A LoRA that changes the model, and a second checkpoint."""
    folder = comfyui.base / "models"
    (folder / "loras").mkdir(exist_ok=True)
    layer = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"{layer}.lora_up.weight": torch.randn(320, 4, generator=generator),
        f"{layer}.lora_down.weight": torch.randn(4, 768, generator=generator),
        f"{layer}.alpha": torch.tensor(4.0),
    }
    save_file(weights, folder / "loras" / LORA)
    write_checkpoint(folder / "checkpoints" / REFINER, seed=1)


def pixels(source):
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def stock_image(comfyui, graph, saver):
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    (place,) = entry["outputs"][saver]["images"]
    answer = requests.get(f"{comfyui.url}/view", params=place, timeout=30, stream=True)
    return pixels(answer.raw)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", VARIANTS)
def test_an_image_of_an_adapted_workflow_is_the_one_that_the_stock_workflow_makes(
    comfyui, name, tmp_path
):
    stock = getattr(stock_graphs, name)(checkpoint=NAME, **VARIANTS[name])
    saver = "23" if name == "hires" else "9"
    workflow = adapt(
        parse_workflow(stock), class_word="cat", classes=CLASSES, images_per_class=1, batch_size=2
    ).workflow
    with ComfyServer(comfyui.url) as server:
        validate(workflow, server.object_info())
    run_plan(workflow, comfyui.url, tmp_path)
    records = scanned_records(tmp_path)
    assert len(records) == 2
    for record in records.values():
        alone = stock_image(comfyui, stock_graphs.for_row(stock, record.prompt, record.seed), saver)
        made = pixels(tmp_path / record.file_name)
        assert np.abs(made - alone).max() <= 1  # of 255: both are rounded
    assert len({record.sha256 for record in records.values()}) == 2

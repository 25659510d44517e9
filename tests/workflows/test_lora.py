"""The workflow with a LoRA on an embedded engine that has the file."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from client.__main__ import main
from client.embedded.runtime import BUNDLED_CHECKPOINTS
from tests.client.embedded.api.test_server import start
from tests.comfy_nodes.helpers import scanned_records

LAYER = "mid_block.resnets.0.conv1"


def write_lora(path):
    """A LoRA for one convolution of the bundled checkpoint."""
    (checkpoint,) = (each for each in BUNDLED_CHECKPOINTS.iterdir() if each.is_dir())
    config = json.loads((checkpoint / "unet" / "config.json").read_text(encoding="utf-8"))
    width = config["block_out_channels"][-1]
    path.parent.mkdir(parents=True)
    stem = f"lora_unet_{LAYER.replace('.', '_')}"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{stem}.lora_up.weight": torch.randn(width, 2, 1, 1, generator=generator),
        f"{stem}.lora_down.weight": torch.randn(2, width, 3, 3, generator=generator),
    }
    save_file(tensors, path)


@pytest.mark.slow
def test_strength_zero_is_without_the_lora_and_any_other_is_not(tmp_path, capsys):
    write_lora(tmp_path / "base" / "models" / "loras" / "add_detail.safetensors")
    process, url = start(tmp_path / "base")
    images = {}
    try:
        for name, strength in (
            ("sd15_class_prompts", None),
            ("sd15_lora", 0.0),
            ("sd15_lora", 0.8),
        ):
            out = tmp_path / f"{name} {strength}"
            command = ["run", name, "--server", url, "--per-class", "1", "--steps", "2"]
            command += ["--checkpoint", "tiny-digits", "--width", "32", "--height", "32"]
            command += ["--out", str(out)]
            if strength is not None:
                command += ["--set", f"LoRA.strength_model={strength}"]
            assert main(command) == 0, capsys.readouterr().err
            records = scanned_records(out)
            images[strength] = {}
            for (_, index), record in records.items():
                assert record.settings.get("lora_strength") == strength
                with Image.open(out / record.file_name) as image:
                    images[strength][index] = np.asarray(image).astype(int)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    for index, plain in images[None].items():
        assert (images[0.0][index] == plain).all()
        assert (images[0.8][index] != plain).any()

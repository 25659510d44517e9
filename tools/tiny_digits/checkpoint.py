"""Write the checkpoint folder in the layout of diffusers, with float16 safetensors only."""

from __future__ import annotations

import copy
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy
import tokenizers
import torch
import transformers
from diffusers import EulerDiscreteScheduler

from .diffusion import SCHEDULER_CONFIG
from .images import Digit
from .recipe import Recipe

TRAINING_DATA_FILE = "training_data.json"


def write_model_index(folder: Path) -> None:
    """Name the parts of a StableDiffusionPipeline; digits need no safety checker."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)
    EulerDiscreteScheduler(**SCHEDULER_CONFIG).save_pretrained(folder / "scheduler")


def write_part(folder: Path, name: str, model: torch.nn.Module) -> None:
    """Save one model as float16; in memory it stays float32, rounded to the values saved."""
    round_to_half(model)
    # Any: all three are diffusers or transformers models, which can save themselves.
    halved: Any = copy.deepcopy(model).half()
    halved.save_pretrained(folder / name)
    for path in (folder / name).glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them readable only by their owner


@torch.no_grad()
def round_to_half(model: torch.nn.Module) -> None:
    """Round in place to float16 values, so that later stages train with what will be loaded."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())


def write_training_data(
    folder: Path, digits: list[Digit], recipe: Recipe, measured: dict[str, object]
) -> None:
    """Record the training data and the recipe; the fidelity command adds to `measured`."""
    record = {
        "source": (
            "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, test part)"
        ),
        "images": len(digits),
        "load_digits_indices": sorted(digit.index for digit in digits),
        "recipe": asdict(recipe),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "numpy": numpy.__version__,
        },
        "measured": measured,
    }
    write_json(folder / TRAINING_DATA_FILE, record)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

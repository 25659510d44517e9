"""The shipped workflows. ComfyUI's template browser shows and searches file names, and nothing
else, so files in editor format are named for people; those in API format for the command line.
"""

import copy
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TITLES = {
    "bank_from_text": "Prompt bank from text - SynthGrid",
    "sd15_captions": "Images from captions - SynthGrid SD1.5",
    "sd15_class_prompts": "Images from class names - SynthGrid SD1.5",
    "sd15_class_prompts_banks": "Images with contexts and styles - SynthGrid SD1.5",
    "sd15_diversified": "Images with a prompt bank - SynthGrid SD1.5",
    "sd15_from_real_images": "Images from real images - SynthGrid SD1.5",
    "sd15_lora": "Images with a LoRA - SynthGrid SD1.5",
    "sd15_lora_from_real_images": "Images from real images with a LoRA - SynthGrid SD1.5",
    "sdxl_class_prompts": "SDXL images from class names - SynthGrid",
}

WITH_A_PLAN = sorted(set(TITLES) - {"bank_from_text"})  # that one makes no images
WITH_CAPTIONS = ("sd15_captions",)  # and no classes


def api(name: str) -> Path:
    return FOLDER / "api" / f"{name}.json"


def editor(name: str) -> Path:
    return FOLDER / f"{TITLES[name]}.json"


def whole(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph in API format with the batcher's switch off: in editor format it is on, so that the
    first Run in the browser makes one image of each class."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if "try_one_of_each" in node["inputs"]:
            node["inputs"]["try_one_of_each"] = False
    return graph

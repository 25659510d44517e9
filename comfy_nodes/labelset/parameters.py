"""A record as A1111's `parameters` text, which many galleries and tools read.

https://github.com/AUTOMATIC1111/stable-diffusion-webui writes and reads the same format.
"""

from __future__ import annotations

import re
from typing import Any

from .record import ImageRecord


def parameters_text(record: ImageRecord) -> str:
    """The `parameters` text of one image, with its own prompt and seed.

    The lines are the prompt, "Negative prompt: ..." if there is one, and "Steps: 20, Sampler: ...",
    from which unknown settings are omitted.
    """
    settings = record.settings
    has_size = {"width", "height"} <= settings.keys()
    denoise = settings.get("denoise")
    values = {
        "Steps": settings.get("steps"),
        "Sampler": settings.get("sampler"),
        "Schedule type": settings.get("scheduler"),
        "CFG scale": settings.get("cfg"),
        "Seed": record.seed,
        "Size": f"{settings['width']}x{settings['height']}" if has_size else None,
        "Model": _stem(settings.get("checkpoint")),
        "Denoising strength": denoise if denoise != 1 else None,
        "Version": "SynthGrid",
    }
    negative = [f"Negative prompt: {record.negative_prompt}"] if record.negative_prompt else []
    last = ", ".join(f"{key}: {value}" for key, value in values.items() if value is not None)
    return "\n".join([record.prompt, *negative, last])


def _stem(checkpoint: Any) -> str | None:
    """ "sd15/model.safetensors" -> "model"."""
    name = re.split(r"[/\\]", str(checkpoint or ""))[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|sft|gguf)$", "", name) or None

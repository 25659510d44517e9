"""A record in A1111's words, the `parameters` text that many galleries and tools read."""

from __future__ import annotations

import re
from typing import Any

from .record import ImageRecord


def parameters_text(record: ImageRecord) -> str:
    """The image's story in A1111's words, which many galleries and tools read: this image's own prompt and seed."""
    settings = record.settings
    values = {
        "Steps": settings.get("steps"),
        "Sampler": settings.get("sampler"),
        "Schedule type": settings.get("scheduler"),
        "CFG scale": settings.get("cfg"),
        "Seed": record.seed,
        "Size": f"{settings['width']}x{settings['height']}"
        if {"width", "height"} <= settings.keys()
        else None,
        "Model": _stem(settings.get("checkpoint")),
        "Denoising strength": settings.get("denoise")
        if settings.get("denoise") not in (None, 1)
        else None,
        "Version": "SynthGrid",
    }
    negative = [f"Negative prompt: {record.negative_prompt}"] if record.negative_prompt else []
    last = ", ".join(f"{key}: {value}" for key, value in values.items() if value is not None)
    return "\n".join([record.prompt, *negative, last])


def _stem(checkpoint: Any) -> str | None:
    """ "sd15/model.safetensors" -> "model"."""
    name = re.split(r"[/\\]", str(checkpoint or ""))[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|sft|gguf)$", "", name) or None

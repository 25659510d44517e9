"""A record as A1111's `parameters` text, which many galleries and tools read.

https://github.com/AUTOMATIC1111/stable-diffusion-webui writes and reads the same format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .record import ImageRecord

_FILE = re.compile(
    r"(?P<folder>[^/]+)/(?P<name>.+) sha256:(?P<sha256>[0-9a-f]{64})(?: autov3:(?P<autov3>\w{12}))?"
)


def parameters_text(record: ImageRecord) -> str:
    """The `parameters` text of one image, with its own prompt and seed.

    The lines are the prompt, "Negative prompt: ..." if there is one, and "Steps: 20, Sampler: ...",
    from which unknown settings are omitted.
    """
    settings = record.settings
    has_size = {"width", "height"} <= settings.keys()
    denoise = settings.get("denoise") if record.strength is None else record.strength
    denoise = settings.get("hires_denoise", denoise)
    clip_skip = settings.get("clip_skip")
    values = {
        "Steps": settings.get("steps"),
        "Sampler": settings.get("sampler"),
        "Schedule type": settings.get("scheduler"),
        "CFG scale": settings.get("cfg"),
        "Seed": record.seed,
        "Size": f"{settings['width']}x{settings['height']}" if has_size else None,
        "Model hash": _model_hash(settings),
        "Model": _stem(settings.get("checkpoint")),
        "Denoising strength": denoise if denoise != 1 else None,
        "Clip skip": clip_skip if clip_skip != 1 else None,
        "Hires steps": settings.get("hires_steps"),
        "Lora hashes": _lora_hashes(settings),
        "Version": "SynthGrid",
    }
    negative = [f"Negative prompt: {record.negative_prompt}"] if record.negative_prompt else []
    last = ", ".join(
        f"{key}: {_quoted(value)}" for key, value in values.items() if value is not None
    )
    return "\n".join([record.prompt, *negative, last])


def _quoted(value: Any) -> str:
    """A value of the last line; as in A1111, in quotation marks where it could be taken for two."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search("[,:\n]", text) else text


def _files(settings: Mapping[str, Any]) -> Iterator[re.Match[str]]:
    """The model files of a record: folder, name, sha256 and, for some LoRAs, autov3."""
    files = settings.get("files")
    lines = files if isinstance(files, list) else []
    yield from (found for line in lines if (found := _FILE.fullmatch(str(line))))


def _model_hash(settings: Mapping[str, Any]) -> str | None:
    """The first ten digits of the checkpoint's SHA-256, as in A1111."""
    name = f"{settings.get('checkpoint')}".replace("\\", "/")
    for each in _files(settings):
        if (each["folder"], each["name"]) == ("checkpoints", name):
            return each["sha256"][:10]
    return None


def _lora_hashes(settings: Mapping[str, Any]) -> str | None:
    """As in "ink: 0123456789ab, paper: ba9876543210"; None without LoRAs."""
    hashes = [
        f"{re.sub('[:,]', '', _stem(each['name']) or '')}: {each['autov3'] or each['sha256'][:12]}"
        for each in _files(settings)
        if each["folder"] == "loras"
    ]
    return ", ".join(hashes) or None


def _stem(checkpoint: Any) -> str | None:
    """ "sd15/model.safetensors" -> "model"."""
    name = re.split(r"[/\\]", str(checkpoint or ""))[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|sft|gguf)$", "", name) or None

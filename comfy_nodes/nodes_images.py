"""The node that saves images into class folders, each with a record of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import host
from .errors import LabelsetError
from .imagefile import PARAMETERS, SUFFIXES, ImageFormat, parameters_text
from .labelset import CARD, ImageRecord, LabelledFolder, encode_image, folder_names, image_file_name, read_record
from .nodes_prompts import CATEGORY, PromptBatch
from .plan import ImageSpec

if TYPE_CHECKING:
    import torch

# Which widgets of which core nodes say how an image was made, and what they are called in a record. Only values that
# are typed in are taken: label, prompt and seed come with the batch, never from the graph.
SETTINGS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoint",
    ("KSamplerSelect", "sampler_name"): "sampler",
    ("BasicScheduler", "scheduler"): "scheduler",
    ("BasicScheduler", "steps"): "steps",
    ("BasicScheduler", "denoise"): "denoise",
    ("CFGGuider", "cfg"): "cfg",
    ("KSampler", "sampler_name"): "sampler",
    ("KSampler", "scheduler"): "scheduler",
    ("KSampler", "steps"): "steps",
    ("KSampler", "cfg"): "cfg",
    ("KSampler", "denoise"): "denoise",
    ("LoraLoader", "lora_name"): "lora",
}


class LabelledImageSaver:
    """SynthGrid Labelled Image Saver: images and their batch -> class folders with records."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves every image into the folder of its class, with label, prompt, seed and settings in the file itself and in "
        "metadata.jsonl. The folder opens in torchvision's ImageFolder and Hugging Face's imagefolder as it is. An image "
        "that is already there is kept. A PNG or WebP dragged into ComfyUI brings its workflow back."
    )
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True
    SEARCH_ALIASES = [
        "save image dataset", "class folders", "labelled save", "labeled save", "imagefolder", "save webp", "save jpeg",
        "save with metadata", "training data",
    ]  # fmt: skip

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        folder = "Folder inside ComfyUI's output folder. Sub-folders such as 'animals/first try' are fine."
        overwrite = "Off: an image of this plan that is already in the folder is kept. On: it is replaced."
        kind = "PNG keeps every pixel. WebP and JPEG are smaller. The record is inside all three."
        level = (
            "PNG only. 0: not compressed; 1 to 5: fast, and for photographs as small as any; 6 to 9: slow, smaller for "
            "flat drawings. The pixels are the same."
        )
        quality = "WebP and JPEG only. WebP at 100 keeps every pixel."
        bad = (
            "Off: a batch with an all-black image, or one with NaN values, is refused and nothing of it is saved. On: such "
            "images are saved, NaN as black."
        )
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "From VAE Decode."}),
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."}),
                "folder": ("STRING", {"default": "synthgrid", "tooltip": folder}),
                "overwrite": ("BOOLEAN", {"default": False, "tooltip": overwrite}),
            },
            "optional": {
                "format": (list(SUFFIXES), {"default": "PNG", "tooltip": kind}),
                "compress_level": ("INT", {"default": 4, "min": 0, "max": 9, "tooltip": level}),
                "quality": ("INT", {"default": 95, "min": 1, "max": 100, "tooltip": quality}),
                "keep_bad_images": ("BOOLEAN", {"default": False, "tooltip": bad}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """Never cached: queueing again after deleting a file must write it again."""
        return float("nan")

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str) -> bool | str:
        """Refuses a folder outside the output folder before anything is sampled."""
        try:
            host.folder_in_output(folder)
        except LabelsetError as error:
            return str(error)
        return True

    def save(
        self,
        images: torch.Tensor,
        batch: PromptBatch,
        folder: str = "synthgrid",
        overwrite: bool = False,
        format: str = "PNG",
        compress_level: int = 4,
        quality: int = 95,
        keep_bad_images: bool = False,
        prompt: Mapping[str, Any] | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """`images` is [B, H, W, 3] in 0..1.

        Raises:
            LabelsetError: as many images as records are not there, an image is black or not finite, two classes share a
                folder, or the folder cannot be written.
        """
        if images.shape[0] != len(batch.specs):
            raise LabelsetError(
                f"{images.shape[0]} images but {len(batch.specs)} records: every image must come from this batch; "
                "connect SynthGrid Batch Latent to the sampler and nothing that repeats or drops images in between"
            )
        folder_names(entry.name for entry in batch.plan.classes)
        how = ImageFormat(format, compress_level, quality)
        labelled = LabelledFolder(host.folder_in_output(folder))
        settings = generator_settings(prompt or {}) | {"width": int(images.shape[2]), "height": int(images.shape[1])}
        wanted = [_record(spec, batch.plan.plan_id, settings, how.suffix) for spec in batch.specs]
        kept = {} if overwrite else _existing(labelled, wanted)
        missing = {row: record for row, record in enumerate(wanted) if row not in kept}
        encode = partial(_encode, how=how, chunks=_chunks(prompt, extra_pnginfo), keep_bad=keep_bad_images)
        written = _write(labelled, images, missing, encode, overwrite)
        records = [(kept | written)[row] for row in range(len(wanted))]
        if batch.batch_index == batch.batch_count - 1 or (labelled.root / CARD).exists():
            labelled.scan()
            labelled.write_card()
        return {
            "ui": {
                "images": [_location(folder, record) for record in records],
                "synthgrid_records": [asdict(record) for record in records],
                "text": [f"{len(written)} saved, {len(kept)} were there already and kept"],
            }
        }


def generator_settings(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """How the images were made, from the typed-in values of a graph in API format: {"checkpoint": ..., "steps": 20, ...}.

    A setting that two nodes give differently is left out: which of them made the image is not known.
    """
    found: dict[str, list[Any]] = {}
    for node in prompt.values():
        for (class_type, name), setting in SETTINGS.items():
            value = node.get("inputs", {}).get(name)
            if node.get("class_type") == class_type and isinstance(value, (str, int, float)):
                found.setdefault(setting, []).append(value)
    return {setting: values[0] for setting, values in found.items() if len(set(values)) == 1}


def _record(spec: ImageSpec, plan_id: str, settings: Mapping[str, Any], suffix: str) -> ImageRecord:
    return ImageRecord(
        file_name=image_file_name(spec.label, plan_id, spec.index, suffix),
        label=spec.label,
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        index=spec.index,
        plan_id=plan_id,
        template=spec.template,
        context=spec.context,
        style=spec.style,
        settings=dict(settings),
    )


def _existing(labelled: LabelledFolder, wanted: list[ImageRecord]) -> dict[int, ImageRecord]:
    """Row -> the record inside the image that is already there, for the rows that have one."""
    existing = {}
    for row, record in enumerate(wanted):
        path = labelled.find(record)
        if path is not None:
            found = read_record(path.read_bytes())
            if found is None or found.key != record.key:
                raise LabelsetError(
                    f"{path} is in the way: it is not an image of this plan; move it or choose another folder"
                )
            existing[row] = found
    return existing


def _write(
    labelled: LabelledFolder,
    images: torch.Tensor,
    records: Mapping[int, ImageRecord],
    encode: Callable[[torch.Tensor, ImageRecord], bytes],
    overwrite: bool,
) -> dict[int, ImageRecord]:
    """Encodes in threads (Pillow releases the interpreter lock) and, when all are sound, writes; row -> record as written.

    A refused image ends the wait for the others: nothing has been written then.
    """
    pool = ThreadPoolExecutor(max(1, min(len(records), os.cpu_count() or 1)))
    try:
        encoded = [pool.submit(encode, images[row], record) for row, record in records.items()]
        items = [(record, each.result()) for record, each in zip(records.values(), encoded, strict=True)]
    finally:
        pool.shutdown(cancel_futures=True)
    return dict(zip(records, labelled.add_all(items, overwrite=overwrite), strict=True))


def _encode(
    image: torch.Tensor, record: ImageRecord, *, how: ImageFormat, chunks: Mapping[str, str], keep_bad: bool
) -> bytes:
    pixels = _pixels(image, record, keep_bad=keep_bad)
    return encode_image(
        Image.fromarray(pixels), record, how, texts={PARAMETERS: parameters_text(record)} | dict(chunks)
    )


def _pixels(image: torch.Tensor, record: ImageRecord, *, keep_bad: bool) -> Any:
    """[H, W, 3] in 0..1 -> 8-bit values, cut off as ComfyUI's SaveImage does, so that both save the same pixels.

    NumPy works in the thread that calls it; torch would start threads of its own in each of ours.
    """
    import numpy as np

    values = image.cpu().float().numpy()
    brightest = float(values.max())
    if not keep_bad and not np.isfinite((brightest, float(values.min()))).all():  # NaN is greatest and least
        raise LabelsetError(
            f"image {record.index} ('{record.label}') has NaN values: the sampler or VAE overflowed; "
            "try --fp32-vae, fewer steps, or check that the checkpoint is whole; keep_bad_images saves it all the same"
        )
    if not keep_bad and brightest * 255.0 < 1.0:
        raise LabelsetError(
            f"image {record.index} ('{record.label}') is all black: the VAE overflowed in half precision (try --fp32-vae), "
            "or a safety filter blanked it; keep_bad_images saves it all the same"
        )
    scaled = values * np.float32(255.0)
    if keep_bad:
        np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def _chunks(prompt: Mapping[str, Any] | None, extra_pnginfo: Mapping[str, Any] | None) -> dict[str, str]:
    """ComfyUI's own text chunks, which restore the graph when the image is dragged into the browser.

    While it runs, ComfyUI notes in the prompt what IS_CHANGED answered, our NaN among it, which is no JSON: left out.
    """
    graph = {
        node_id: {key: node[key] for key in node if key != "is_changed"} for node_id, node in (prompt or {}).items()
    }
    chunks = {"prompt": json.dumps(graph)} if graph else {}
    return chunks | {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}


def _location(folder: str, record: ImageRecord) -> dict[str, str]:
    """Where /view finds the image."""
    class_folder, _, name = record.file_name.partition("/")
    subfolder = "/".join((*Path(folder.strip()).parts, class_folder))
    return {"filename": name, "subfolder": subfolder, "type": "output"}


NODE_CLASS_MAPPINGS = {"SynthGridLabelledImageSaver": LabelledImageSaver}
NODE_DISPLAY_NAME_MAPPINGS = {"SynthGridLabelledImageSaver": "SynthGrid Labelled Image Saver"}

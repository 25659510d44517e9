"""The node that saves images into class folders, each with its own record."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .. import paths
from ..errors import LabelsetError
from ..graph import generator_settings, reproducibility_warnings, upstream
from ..graph.chain import chain_of, warning_of
from ..graph.model_files import model_files
from ..labelset import (
    CARD,
    METADATA,
    TURNS,
    ImageRecord,
    LabelledFolder,
    encode_image,
    folder_names,
    image_file_name,
    read_record,
)
from ..labelset.files import read_regular
from ..labelset.images.imagefile import PARAMETERS, SUFFIXES, ImageFormat
from ..labelset.parameters import parameters_text
from ..plan import ImageSpec
from .batcher import SAVER, PromptBatch
from .prompts import CATEGORY
from .subfolders import LABEL, SubfolderPattern

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_INLINE_PIXELS = 200_000  # a call with fewer is done sooner by one thread than by starting more


class LabelledImageSaver:
    """SynthGrid Labelled Image Saver: images and their batch -> class folders with records."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves every image into the folder of its class, with label, prompt, seed and settings in "
        "the file itself and in metadata.jsonl. torchvision's ImageFolder and Hugging Face's "
        "imagefolder read the folder as it is. Existing images are kept. Dragging a PNG or WebP "
        "into ComfyUI restores its workflow."
    )
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True
    SEARCH_ALIASES = [
        "save image dataset",
        "save class",
        "dataset",
        "class folders",
        "labelled save",
        "labeled save",
        "imagefolder",
        "save webp",
        "save jpeg",
        "save with metadata",
        "training data",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        folder = (
            "A folder inside ComfyUI's output folder. "
            "Sub-folders such as 'animals/first try' are fine."
        )
        overwrite = "Off: existing images of this plan are kept. On: they are replaced."
        kind = "PNG is lossless. WebP and JPEG are smaller. All three contain the record."
        level = (
            "PNG only. 0: no compression; 1 to 5: fast, and for photographs as small as any; "
            "6 to 9: slow, but smaller for flat drawings. The pixels are the same."
        )
        quality = "WebP and JPEG only. WebP at 100 is lossless."
        bad = (
            "Off: a batch with an image that is all black or has NaN values is refused, and "
            "nothing of it is saved. On: such images are saved, with NaN as black."
        )
        below = (
            "Folders inside the folder. {label} is the class folder and comes last. "
            "'{style}/{label}' makes one labelled folder per style; {context}, {template} and "
            "{plan_id} work likewise."
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
                "subfolders": ("STRING", {"default": LABEL, "tooltip": below}),
            },
            "hidden": {
                "prompt": "PROMPT",
                "extra_pnginfo": "EXTRA_PNGINFO",
                "unique_id": "UNIQUE_ID",
            },
        }

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """Never cached, so that queueing again after deleting a file writes it again."""
        return float("nan")

    @classmethod
    def VALIDATE_INPUTS(
        cls, folder: str | None = None, subfolders: str | None = LABEL
    ) -> bool | str:
        """Refuses a bad pattern or a folder outside the output folder before anything is sampled.

        The value of a linked input (None) is not known yet.
        """
        try:
            if subfolders is not None:
                SubfolderPattern(subfolders)
            if folder is not None:
                paths.folder_in_output(folder)
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
        subfolders: str = LABEL,
        prompt: Mapping[str, Any] | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """`images` is [B, H, W, 3] in 0..1.

        Raises:
            LabelsetError: the numbers of images and records differ, an image is all black or not
                finite, two classes would share a folder, the pattern has no class folder, or the
                folder cannot be written. Also if other files are in the way of some images; the
                other images have been saved by then.
        """
        if images.shape[0] != len(batch.specs):
            raise LabelsetError(
                f"{images.shape[0]} images but {len(batch.specs)} records: every image must come "
                "from this batch; connect SynthGrid Batch Latent to the sampler, with nothing in "
                "between that repeats or drops images"
            )
        folder_names(batch.plan.labels)
        how = ImageFormat(format, compress_level, quality)
        target = _Target(paths.folder_in_output(folder), SubfolderPattern(subfolders), batch)
        settings = _settings(prompt or {}, unique_id, images)
        wanted = _records(batch, settings, how.suffix)
        encode = partial(
            _encode, how=how, chunks=_chunks(prompt, extra_pnginfo), keep_bad=keep_bad_images
        )
        with TURNS:  # the panel in the sidebar may set images of the same folder aside
            kept, blocked = ({}, {}) if overwrite else target.existing(wanted)
            missing = {
                row: record
                for row, record in enumerate(wanted)
                if row not in kept and row not in blocked
            }
            encoded = _encode_all(images, missing, encode)
            written = target.write(missing, encoded, overwrite=overwrite)
            target.write_cards()
        if blocked:
            raise LabelsetError(_blocked_text(blocked, saved=len(written), kept=len(kept)))
        records = [(kept | written)[row] for row in range(len(wanted))]
        warnings = reproducibility_warnings(prompt or {}, unique_id)
        if (left_out := warning_of(settings.get("chain", []))) is not None:
            warnings.append(left_out)
        for warning in warnings:
            log.warning("SynthGrid: %s", warning)
        return {
            "ui": {
                "images": [
                    target.location(folder, row, record) for row, record in enumerate(records)
                ],
                "synthgrid_records": [record.to_dict() for record in records],
                "text": [
                    f"{len(written)} saved, {len(kept)} already existed and were kept",
                    *warnings,
                ],
            }
        }


class _Target:
    """The labelled folders that the rows of a batch go into; rows are numbered within the batch."""

    def __init__(self, root: Path, pattern: SubfolderPattern, batch: PromptBatch) -> None:
        self.root = root
        self.depth = pattern.depth()
        self.is_last = batch.batch_index == batch.batch_count - 1
        self.parents = [pattern.parent(spec, batch.plan.plan_id) for spec in batch.specs]
        self.folders = {
            parent: LabelledFolder(root / parent) for parent in dict.fromkeys(self.parents)
        }

    def existing(
        self, wanted: Sequence[ImageRecord]
    ) -> tuple[dict[int, ImageRecord], dict[int, str]]:
        """Row -> the record inside its existing image; row -> what else is in its way."""
        existing, blocked = {}, {}
        for row, record in enumerate(wanted):
            path = self.folders[self.parents[row]].find(record)
            if path is None:
                continue
            try:
                found = read_record(read_regular(path))
            except (LabelsetError, OSError) as error:
                blocked[row] = (
                    f"{path} is in the way and damaged ({error}); "
                    "move it out of the folder, or turn on overwrite"
                )
                continue
            if found is None or found.key != record.key:
                blocked[row] = (
                    f"{path} is in the way: it is not an image of this plan; "
                    "move it or choose another folder"
                )
            elif record.attempt and found.attempt != record.attempt:
                blocked[row] = (
                    f"{path} is in the way: it is attempt {found.attempt} at this image, and "
                    f"attempt {record.attempt} comes; move it out of the folder, or turn on "
                    "overwrite"
                )
            else:
                existing[row] = found
        return existing, blocked

    def write(
        self, records: Mapping[int, ImageRecord], data: Mapping[int, bytes], *, overwrite: bool
    ) -> dict[int, ImageRecord]:
        """Row -> the record as written, with the hash of its file."""
        written: dict[int, ImageRecord] = {}
        for parent, labelled in self.folders.items():
            rows = [row for row in records if self.parents[row] == parent]
            items = [(records[row], data[row]) for row in rows]
            written |= dict(zip(rows, labelled.add_all(items, overwrite=overwrite), strict=True))
        return written

    def write_cards(self) -> None:
        """Updates existing cards; with the last batch, writes one for every labelled folder."""
        folders = {
            labelled.root for labelled in self.folders.values() if (labelled.root / CARD).exists()
        }
        if self.is_last:
            folders |= {path.parent for path in self.root.glob("*/" * self.depth + METADATA)}
        for root in sorted(folders):
            labelled = LabelledFolder(root)
            labelled.scan()
            labelled.write_card()

    def location(self, folder: str, row: int, record: ImageRecord) -> dict[str, str]:
        """Where ComfyUI's /view route finds the image of a row."""
        class_folder, _, name = record.file_name.partition("/")
        parts = (*Path(folder.strip()).parts, self.parents[row], class_folder)
        return {"filename": name, "subfolder": "/".join(filter(None, parts)), "type": "output"}


def _settings(
    prompt: Mapping[str, Any], saver_id: str | None, images: torch.Tensor
) -> dict[str, Any]:
    """The settings of a record: single values first, then the model files and the whole chain."""
    nodes = [prompt[each] for each in upstream(prompt, saver_id)]
    settings = generator_settings(prompt, saver_id) | {
        "width": int(images.shape[2]),
        "height": int(images.shape[1]),
    }
    long = {"files": model_files(nodes), "chain": chain_of(prompt, saver_id)}
    return settings | {name: lines for name, lines in long.items() if lines}


def _blocked_text(blocked: Mapping[int, str], *, saved: int, kept: int) -> str:
    first, more = next(iter(blocked.values())), len(blocked) - 1
    others = f" ({more} more files are in the way)" if more else ""
    return f"{first}{others}. Of the batch, {saved} images were saved, {kept} already existed"


def _records(batch: PromptBatch, settings: Mapping[str, Any], suffix: str) -> list[ImageRecord]:
    records = [_record(spec, batch.plan.plan_id, settings, suffix) for spec in batch.specs]
    if not batch.sources:
        return records
    return [
        replace(record, source_image=source.file, source_sha256=source.sha256)
        for record, source in zip(records, batch.sources, strict=True)
    ]


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
        attempt=spec.attempt,
        strength=spec.strength,
    )


def _encode_all(
    images: torch.Tensor,
    records: Mapping[int, ImageRecord],
    encode: Callable[..., bytes],
) -> dict[int, bytes]:
    """Row -> the bytes of its file. Large batches use threads: Pillow releases the GIL.

    If one image is refused, the others are not waited for; nothing has been written by then.
    """
    cores = os.cpu_count() or 1
    workers = min(len(records), cores)
    is_small = len(records) * images.shape[1] * images.shape[2] < _INLINE_PIXELS
    if workers < 2 or is_small:
        threads = 1 if is_small else cores
        return {
            row: encode(images[row], record, threads=threads) for row, record in records.items()
        }
    pool = ThreadPoolExecutor(workers)
    try:
        encoded = {row: pool.submit(encode, images[row], record) for row, record in records.items()}
        return {row: each.result() for row, each in encoded.items()}
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(
    image: torch.Tensor,
    record: ImageRecord,
    *,
    how: ImageFormat,
    chunks: Mapping[str, str],
    keep_bad: bool,
    threads: int = 1,
) -> bytes:
    pixels = _pixels(image, record, keep_bad=keep_bad)
    texts = {PARAMETERS: parameters_text(record)} | dict(chunks)
    return encode_image(Image.fromarray(pixels), record, how, texts=texts, threads=threads)


def _pixels(image: torch.Tensor, record: ImageRecord, *, keep_bad: bool) -> Any:
    """[H, W, 3] in 0..1 -> uint8, truncated as in ComfyUI's SaveImage, so that pixels are equal.

    NumPy works in the calling thread; torch would start threads of its own in each of ours.
    """
    import numpy as np

    values = image.cpu().float().numpy()
    if not keep_bad and not np.isfinite(values.sum(dtype=np.float64)):  # any NaN makes the sum NaN
        raise LabelsetError(
            f"image {record.index} ('{record.label}') has NaN values: the sampler or VAE "
            "overflowed; try --fp32-vae or fewer steps, or check that the checkpoint file is "
            "complete; with keep_bad_images it is saved anyway"
        )
    scaled = values * np.float32(255.0)
    if keep_bad:
        np.nan_to_num(scaled, copy=False, nan=0.0)
    pixels = np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
    if not keep_bad and not pixels.any():
        raise LabelsetError(
            f"image {record.index} ('{record.label}') is all black: the VAE overflowed in half "
            "precision (try --fp32-vae), or a safety filter blanked it; "
            "with keep_bad_images it is saved anyway"
        )
    return pixels


def _chunks(
    prompt: Mapping[str, Any] | None, extra_pnginfo: Mapping[str, Any] | None
) -> dict[str, str]:
    """ComfyUI's own texts, which restore the graph when the image is dragged into the browser.

    While a prompt runs, ComfyUI adds the results of IS_CHANGED to it. They are removed, because our
    NaN is not valid JSON.
    """
    graph = {
        node_id: {key: node[key] for key in node if key != "is_changed"}
        for node_id, node in (prompt or {}).items()
    }
    chunks = {"prompt": json.dumps(graph)} if graph else {}
    return chunks | {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}


NODE_CLASS_MAPPINGS = {SAVER: LabelledImageSaver}
NODE_DISPLAY_NAME_MAPPINGS = {SAVER: "SynthGrid Labelled Image Saver"}

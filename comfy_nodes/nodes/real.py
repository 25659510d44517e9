"""The node that starts every image of a batch from a real image of its class (img2img)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import paths
from ..errors import LabelsetError, PlanError
from ..graph import queued
from .batcher import REAL_LATENT, PromptBatch
from .prompts import BATCHER, CATEGORY, queued_classes
from .realimages import RealFolder, source_of
from .sampling import IMAGE_SIZE, refuse_huge

if TYPE_CHECKING:
    import torch
    from PIL import Image

_READERS = 4  # threads that decode images


class RealImageLatent:
    """SynthGrid Real Image Latent: a real image of each row's class as the latent to start from."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Starts every image from a real image of its class, for classes that the model does not "
        "know by name. BasicScheduler's denoise sets how far the result may move away from it: 0.3 "
        "stays close, 0.8 keeps little. Every class uses its images about equally often, and each "
        "record names the real image it came from."
    )
    RETURN_TYPES = ("LATENT", "SYNTHGRID_BATCH", "IMAGE")
    RETURN_NAMES = ("latent", "batch", "images")
    OUTPUT_TOOLTIPS = (
        "The encoded images, one for each image of the batch, for the sampler.",
        "The batch with the names of the real images: connect it to the saver.",
        "The real images as used, for a preview.",
    )
    FUNCTION = "load"
    SEARCH_ALIASES = [
        "img2img",
        "image to image",
        "img2img folder",
        "load image folder",
        "class folders",
        "real images",
        "augmentation",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        folder = (
            "A folder in ComfyUI's input folder with one sub-folder of images per class: the same "
            "as Class List's path. Training images only, never test images."
        )
        width = "Width in pixels; images are scaled and cropped to it."
        height = "Height in pixels; images are scaled and cropped to it."
        return {
            "required": {
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."}),
                "vae": ("VAE", {"tooltip": "The VAE of the checkpoint."}),
                "folder": ("STRING", {"default": "real", "tooltip": folder}),
                "width": ("INT", IMAGE_SIZE | {"tooltip": width}),
                "height": ("INT", IMAGE_SIZE | {"tooltip": height}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, folder: str | None = None, **_: Any) -> float | str:
        """Cached until a file in the folder changes; a linked folder (None) is not known here."""
        try:
            return float("nan") if folder is None else _folder(folder).state()
        except (LabelsetError, OSError) as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str | None = None) -> bool | str:
        """Refuses a folder that lacks a class, or is outside the input folder, before it is queued.

        The classes are those of the queued graph, as far as they are known.
        """
        if folder is None:
            return True
        return queued.once(f"real images in {folder}", lambda: _problem(folder))

    def load(
        self, batch: PromptBatch, vae: Any, folder: str, width: int, height: int
    ) -> tuple[dict[str, Any], PromptBatch, torch.Tensor]:
        """(LATENT of B rows, the batch with its sources, IMAGE [B, height, width, 3] in 0..1).

        Raises:
            PlanError: the checkpoint has no VAE, or the batch has too many pixels.
            LabelsetError: a class has no folder or no images, or a file is not a complete image.
        """
        if vae is None:
            raise PlanError(
                "vae input is empty: this checkpoint has no VAE; load one with Load VAE"
            )
        refuse_huge(len(batch.specs), width, height)
        real, plan = _folder(folder), batch.plan
        files = {
            label: real.images(label) for label in dict.fromkeys(spec.label for spec in batch.specs)
        }
        chosen = [
            source_of(
                files[spec.label],
                plan_seed=plan.seed,
                label=spec.label,
                position=plan.source_position(spec.index),
            )
            for spec in batch.specs
        ]
        with ThreadPoolExecutor(min(len(chosen), _READERS)) as pool:
            read = list(pool.map(lambda file: real.read(file, width, height), chosen))
        images = _tensor([image for image, _ in read])
        return (
            {"samples": vae.encode(images)},
            replace(batch, sources=tuple(source for _, source in read)),
            images,
        )


def _problem(folder: str) -> bool | str:
    """What is wrong with a folder for the classes that the queued graph takes from it, or True."""
    try:
        _folder(folder).check(dict.fromkeys(_queued_labels(folder)))
    except LabelsetError as error:
        return str(error)
    return True


def _queued_labels(folder: str) -> Iterator[str]:
    for inputs in queued.nodes(REAL_LATENT).values():
        if inputs.get("folder") == folder:
            batcher = queued.nodes(BATCHER).get(queued.node_before(inputs, "batch"), {})
            for entry in queued_classes(queued.node_before(batcher, "classes")):
                yield entry.name


def _folder(name: str) -> RealFolder:
    return RealFolder(paths.folder_in_input(name), name.strip())


def _tensor(images: list[Image.Image]) -> torch.Tensor:
    """RGB images of the same size -> float32 [B, H, W, 3] in 0..1."""
    import numpy as np
    import torch

    pixels = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return torch.from_numpy(pixels).float() / 255.0


NODE_CLASS_MAPPINGS = {REAL_LATENT: RealImageLatent}
NODE_DISPLAY_NAME_MAPPINGS = {REAL_LATENT: "SynthGrid Real Image Latent"}

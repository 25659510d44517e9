"""Core nodes that create, load, save and preview images, with ComfyUI's names and inputs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps, PngImagePlugin

from comfy_nodes.labelset.images.openimage import open_image

from .. import runtime
from ..api.files import inside, split_annotation
from ..errors import EmbeddedError
from ..limits import check_pixels

if TYPE_CHECKING:
    import torch

MAX_RESOLUTION = 16384
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
Inputs = dict[str, dict[str, Any]]


class EmptyImage:
    """A batch of images of one colour."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        side = {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1}
        return {
            "required": {
                "width": ("INT", side),
                "height": ("INT", side),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": (
                    "INT",
                    {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"},
                ),
            }
        }

    def generate(
        self, width: int, height: int, batch_size: int = 1, color: int = 0
    ) -> tuple[torch.Tensor]:
        """IMAGE [B, H, W, 3]; `color` is 0xRRGGBB. Raises EmbeddedError for too many pixels."""
        import torch

        check_pixels(width, height, batch_size)
        channels = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 255.0
        return (channels.expand(batch_size, height, width, 3).contiguous(),)


class LoadImage:
    """An image from the input folder."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        files = sorted(
            each.name
            for each in runtime.folders().input.iterdir()
            if each.suffix.lower() in _IMAGE_SUFFIXES
        )
        return {"required": {"image": (files, {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        """Accepts any file in the input folder and its subfolders, listed or not."""
        path = _annotated_path(image)
        return True if path is not None and path.is_file() else f"Invalid image file: {image}"

    def load(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """IMAGE [1, H, W, 3] and MASK [1, H, W], 1 where the image is transparent."""
        import numpy
        import torch

        path = _annotated_path(image)
        if path is None:
            raise EmbeddedError(f"image '{image}' is outside the input folder")
        with open_image(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
        values = torch.from_numpy(numpy.asarray(picture, dtype="float32") / 255.0)
        return values[None, ..., :3].contiguous(), 1.0 - values[None, ..., 3]


class SaveImage:
    """Numbered PNG files in the output folder."""

    CATEGORY = "image"
    DESCRIPTION = "Saves the images to the output folder."
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True
    KIND = "output"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        prefix = {
            "default": "ComfyUI",
            "tooltip": "How file names begin; may hold sub-folders, %width% and %year%.",
        }
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images."}),
                "filename_prefix": ("STRING", prefix),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: dict[str, Any] | None = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """`images` is [B, H, W, 3], 0..1. Raises EmbeddedError if the prefix leaves the folder."""
        root = runtime.folders().of_kind(self.KIND)
        assert root is not None
        prefix = Path(_fill(filename_prefix, width=images.shape[2], height=images.shape[1]))
        folder = inside(root, str(prefix.parent))
        if folder is None or not prefix.name:
            raise EmbeddedError(
                f"filename_prefix '{filename_prefix}' leads out of the {self.KIND} folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        number = _next_number(folder, prefix.name)
        subfolder = folder.relative_to(root.resolve()).as_posix()
        saved = []
        for place, image in enumerate(images):
            name = f"{prefix.name.replace('%batch_num%', str(place))}_{number + place:05}_.png"
            _picture(image).save(
                folder / name, pnginfo=_chunks(prompt, extra_pnginfo), compress_level=4
            )
            saved.append(
                {
                    "filename": name,
                    "subfolder": "" if subfolder == "." else subfolder,
                    "type": self.KIND,
                }
            )
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    """Numbered PNG files in the temporary folder."""

    DESCRIPTION = "Saves the images to the temporary folder."
    KIND = "temp"
    FUNCTION = "preview"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return {"required": {"images": ("IMAGE",)}, "hidden": hidden}

    def preview(self, images: torch.Tensor, **hidden: Any) -> dict[str, Any]:
        """As `save`, under a name of its own."""
        return self.save(images, "ComfyUI_temp", **hidden)


class SaveImageWebsocket:
    """Images as messages on the websocket of whoever queued the prompt; no file is written."""

    CATEGORY = "image"
    DESCRIPTION = "Sends the images over the websocket, as PNG; saves no file."
    RETURN_TYPES = ()
    FUNCTION = "send"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"images": ("IMAGE", {"tooltip": "The images."})}}

    def send(self, images: torch.Tensor) -> dict[str, Any]:
        """`images` is [B, H, W, 3], 0..1; one binary message each."""
        for place, image in enumerate(images):
            runtime.report_progress(place, len(images))
            file = io.BytesIO()
            _picture(image).save(file, format="PNG", compress_level=1)
            runtime.show_image(file.getvalue())
        return {}


def _picture(image: torch.Tensor) -> Image.Image:
    """[H, W, 3] in 0..1 -> 8 bits a channel."""
    return Image.fromarray((image.cpu().float() * 255.0).clamp(0, 255).byte().numpy())


def _annotated_path(image: str) -> Path | None:
    """Where "cat.png" or "cat.png [output]" lies; None when that is outside the folder."""
    name, kind = split_annotation(image)
    root = runtime.folders().of_kind(kind or "input")
    return None if root is None else inside(root, name)


def _fill(prefix: str, *, width: int, height: int) -> str:
    """Replaces %width%, %height% and the parts of the local time."""
    now = time.localtime()
    values = {"width": str(width), "height": str(height), "year": str(now.tm_year)}
    parts = {
        "month": now.tm_mon,
        "day": now.tm_mday,
        "hour": now.tm_hour,
        "minute": now.tm_min,
        "second": now.tm_sec,
    }
    for name, value in (values | {name: f"{value:02}" for name, value in parts.items()}).items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def _next_number(folder: Path, prefix: str) -> int:
    """One more than the highest number of the files <prefix>_<number>_... in the folder."""
    highest = 0
    for path in folder.iterdir():
        if path.name.lower().startswith(f"{prefix}_".lower()):
            number = path.name[len(prefix) + 1 :].partition("_")[0]
            highest = max(highest, int(number) if number.isdecimal() else 0)
    return highest + 1


def _chunks(
    prompt: dict[str, Any] | None, extra_pnginfo: dict[str, Any] | None
) -> PngImagePlugin.PngInfo:
    """The text chunks from which a browser restores the graph."""
    chunks = PngImagePlugin.PngInfo()
    if prompt is not None:
        chunks.add_text("prompt", json.dumps(prompt))
    for key, value in (extra_pnginfo or {}).items():
        chunks.add_text(key, json.dumps(value))
    return chunks


NODE_CLASS_MAPPINGS = {
    "EmptyImage": EmptyImage,
    "LoadImage": LoadImage,
    "SaveImage": SaveImage,
    "PreviewImage": PreviewImage,
    "SaveImageWebsocket": SaveImageWebsocket,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadImage": "Load Image",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "SaveImageWebsocket": "Save Image (Websocket)",
}

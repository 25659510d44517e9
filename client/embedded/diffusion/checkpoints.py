"""Loads a diffusers folder, or one .safetensors file, as MODEL, CLIP and VAE. safetensors only: a
pickle can run code."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from .. import runtime
from ..errors import EmbeddedError
from . import single_file
from .guidance import DiffusionModel
from .schedules import NoiseLevels
from .text_encoding import TextEncoder

log = logging.getLogger(__name__)

_WEIGHT_FILES = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
_DECODED_AT_ONCE = 2**21  # pixels; eight images of 512x512
_PREDICTIONS = ("epsilon", "v_prediction")


class ImageCodec:
    """VAE: an AutoencoderKL between unscaled latents [B, 4, h, w] and images [B, H, W, 3], 0..1."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        parameter = next(vae.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """float32 images on the CPU."""
        rows = max(1, _DECODED_AT_ONCE // (latent.shape[2] * latent.shape[3] * self.factor**2))
        parts = [
            self._vae.decode(part.to(self._device, self._dtype)).sample
            for part in latent.split(rows)
        ]
        pixels = torch.cat([part.float().cpu() for part in parts])
        return ((pixels + 1.0) / 2.0).clamp(0.0, 1.0).permute(0, 2, 3, 1).contiguous()

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The VAE's mean latents of images, which are cropped to a multiple of its factor."""
        height, width = (side - side % self.factor for side in images.shape[1:3])
        pixels = images[:, :height, :width, :3].permute(0, 3, 1, 2) * 2.0 - 1.0
        return self._vae.encode(pixels.to(self._device, self._dtype)).latent_dist.mean.float().cpu()


Parts = tuple[DiffusionModel, TextEncoder, ImageCodec]
_kept: dict[Path, Parts] = {}


def load(folder: Path) -> Parts:
    """(MODEL, CLIP, VAE) of a diffusers folder of Stable Diffusion 1 or 2, or of a .safetensors
    file of SD1.5. Keeps the last one.

    float16 weights become float32 on the CPU; on a GPU all but the VAE runs in float16.

    Raises:
        EmbeddedError: a part is missing, has no safetensors weights, or belongs to another kind of
            model.
    """
    if folder not in _kept:
        forget()
        _kept[folder] = _load_file(folder) if folder.is_file() else _load(folder)
        log.info("loaded checkpoint %s", folder.name)
    return _kept[folder]


def forget() -> None:
    """Frees the memory of the loaded checkpoint."""
    _kept.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device() -> torch.device:
    """Where models run."""
    if runtime.device():
        return torch.device(runtime.device())
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _load(folder: Path) -> Parts:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    if (folder / "text_encoder_2").exists():
        raise EmbeddedError(
            f"checkpoint '{folder.name}' has two text encoders (SDXL); "
            "the engine takes SD1.5 folders"
        )
    config = _scheduler_config(folder)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise EmbeddedError(
            f"checkpoint '{folder.name}' predicts '{prediction}'; the engine knows {_PREDICTIONS}"
        )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    unet, vae = _model(UNet2DConditionModel, folder, "unet"), _model(AutoencoderKL, folder, "vae")
    model = DiffusionModel(
        unet,
        NoiseLevels.from_config(config),
        prediction=prediction,
        latent_scale=vae.config.scaling_factor,
    )
    return (
        model,
        TextEncoder(tokenizer, _model(CLIPTextModel, folder, "text_encoder")),
        ImageCodec(vae),
    )


def _load_file(path: Path) -> Parts:
    tensors = single_file.read(path)
    tokenizer = single_file.tokenizer(path)
    unet = _ready(single_file.unet(tensors, path, _dtype("unet")), "unet")
    vae = _ready(single_file.vae(tensors, path, _dtype("vae")), "vae")
    text = single_file.text_encoder(tensors, path, _dtype("text_encoder"))
    model = DiffusionModel(
        unet,
        NoiseLevels.from_config({}),  # that of SD1.5
        prediction="epsilon",
        latent_scale=vae.config.scaling_factor,
    )
    return model, TextEncoder(tokenizer, _ready(text, "text_encoder")), ImageCodec(vae)


def _dtype(part: str) -> torch.dtype:
    """Half precision overflows inside many VAEs."""
    return torch.float16 if device().type == "cuda" and part != "vae" else torch.float32


def _ready(model: Any, part: str) -> Any:
    """A loaded part on the device, in the number format in which it runs."""
    if part == "text_encoder":
        return model.to(device(), _dtype(part)).eval()
    return model.to(device()).to(memory_format=torch.channels_last).eval()


def _model(kind: Any, folder: Path, part: str) -> Any:
    """One part, ready to run on the device."""
    name = _WEIGHT_FILES[part]
    whole = any((folder / part).glob(f"{name}.safetensors*"))
    half = any((folder / part).glob(f"{name}.fp16.safetensors*"))
    if not whole and not half:
        raise EmbeddedError(
            f"checkpoint '{folder.name}' has no {part}/{name}.safetensors; "
            "the engine loads safetensors only; "
            "save the pipeline again with safe_serialization=True"
        )
    _refuse_other_shards(folder, part)
    options: dict[str, Any] = {} if whole else {"variant": "fp16"}
    # transformers has renamed this option; there, `to` below does the same.
    if part != "text_encoder":
        options |= {"torch_dtype": _dtype(part), "low_cpu_mem_usage": False}
    try:
        model = kind.from_pretrained(
            folder / part, use_safetensors=True, local_files_only=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EmbeddedError(
            f"checkpoint '{folder.name}': {part} cannot be loaded: {reason}"
        ) from error
    return _ready(model, part)


def _refuse_other_shards(folder: Path, part: str) -> None:
    """An index of shards may name any file; one that is no safetensors file would be unpickled."""
    for index in sorted((folder / part).glob("*.index.json")):
        try:
            shards = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            plain = all(isinstance(each, str) and Path(each).name == each for each in shards)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise EmbeddedError(f"{index} is damaged ({error!r}); restore it from a copy") from None
        if not plain or not all(each.endswith(".safetensors") for each in shards):
            raise EmbeddedError(
                f"{index} names files that are not .safetensors in its own folder; "
                "save the pipeline again with safe_serialization=True"
            )


def _scheduler_config(folder: Path) -> dict[str, Any]:
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbeddedError(
            f"checkpoint '{folder.name}' has no readable scheduler/scheduler_config.json: {error}"
        ) from None

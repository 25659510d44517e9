"""Core nodes around a checkpoint: loading it, encoding text, and going between latents and images.

Names, inputs, ranges and outputs are ComfyUI's, so that one workflow validates on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import runtime
from ..errors import EmbeddedError
from ..limits import check_pixels

if TYPE_CHECKING:
    import torch

    from ..diffusion.checkpoints import ImageCodec, Parts
    from ..diffusion.guidance import DiffusionModel
    from ..diffusion.text_encoding import TextEncoder

MAX_RESOLUTION = 16384
Inputs = dict[str, dict[str, Any]]


class CheckpointLoaderSimple:
    """A diffusers folder or a .safetensors file by its name."""

    CATEGORY = "loaders"
    DESCRIPTION = "Loads a checkpoint: the model that removes noise, its text encoder and its VAE."
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    OUTPUT_TOOLTIPS = (
        "The model that removes noise from latents.",
        "The text encoder, for prompts.",
        "The VAE, between latents and images.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        names = list(runtime.folders().list_checkpoints())
        return {
            "required": {"ckpt_name": (names, {"tooltip": "A checkpoint in models/checkpoints."})}
        }

    def load(self, ckpt_name: str) -> Parts:
        """Raises EmbeddedError: the checkpoint is gone or cannot be loaded."""
        from ..diffusion.checkpoints import load

        available = runtime.folders().list_checkpoints()
        if ckpt_name not in available:
            raise EmbeddedError(
                f"checkpoint '{ckpt_name}' does not exist; "
                f"available: {', '.join(available) or 'none'}"
            )
        return load(available[ckpt_name])


class LoraLoader:
    """A model and its text encoder with a LoRA."""

    CATEGORY = "loaders"
    DESCRIPTION = "Adds a LoRA to a model and its text encoder."
    RETURN_TYPES = ("MODEL", "CLIP")
    OUTPUT_TOOLTIPS = ("The model with the LoRA.", "The text encoder with the LoRA.")
    FUNCTION = "load_lora"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model that the LoRA changes."}),
                "clip": ("CLIP", {"tooltip": "The text encoder that the LoRA changes."}),
                "lora_name": (
                    list(runtime.folders().list_loras()),
                    {"tooltip": "A .safetensors file in models/loras."},
                ),
                "strength_model": ("FLOAT", strength | {"tooltip": "0: the model as it is."}),
                "strength_clip": ("FLOAT", strength | {"tooltip": "0: the encoder as it is."}),
            }
        }

    def load_lora(
        self,
        model: DiffusionModel,
        clip: TextEncoder,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
    ) -> tuple[DiffusionModel, TextEncoder]:
        """Raises EmbeddedError: the file is gone, no plain LoRA, or for another kind of model."""
        from ..diffusion.lora import with_lora

        available = runtime.folders().list_loras()
        if lora_name not in available:
            raise EmbeddedError(
                f"LoRA '{lora_name}' does not exist; available: {', '.join(available) or 'none'}"
            )
        return with_lora(model, clip, available[lora_name], strength_model, strength_clip)


class CLIPTextEncode:
    """One prompt -> CONDITIONING."""

    CATEGORY = "conditioning"
    DESCRIPTION = "Encodes a prompt with CLIP. Prompts of any length; (word:1.2) weighs a word."
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The encoded prompt, one row.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        text = {"multiline": True, "dynamicPrompts": True, "tooltip": "The prompt."}
        return {
            "required": {
                "text": ("STRING", text),
                "clip": ("CLIP", {"tooltip": "The text encoder."}),
            }
        }

    def encode(self, text: str, clip: TextEncoder) -> tuple[list[Any]]:
        """CONDITIONING of one row."""
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


class EmptyLatentImage:
    """A batch of empty latents."""

    CATEGORY = "latent"
    DESCRIPTION = "A batch of empty latents, to be filled by a sampler."
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("Empty latents.",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        side = {"default": 512, "min": 16, "max": MAX_RESOLUTION, "step": 8}
        return {
            "required": {
                "width": ("INT", side | {"tooltip": "Image width in pixels."}),
                "height": ("INT", side | {"tooltip": "Image height in pixels."}),
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 4096, "tooltip": "Images in the batch."},
                ),
            }
        }

    def generate(
        self, width: int, height: int, batch_size: int = 1
    ) -> tuple[dict[str, torch.Tensor]]:
        """{"samples": zeros [B, 4, height / 8, width / 8]}.

        Raises EmbeddedError for too many pixels.
        """
        import torch

        check_pixels(width, height, batch_size)
        return ({"samples": torch.zeros(batch_size, 4, height // 8, width // 8)},)


class VAEDecode:
    """LATENT -> IMAGE."""

    CATEGORY = "latent"
    DESCRIPTION = "Turns latents into images."
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The images.",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT", {"tooltip": "The latents."}),
                "vae": ("VAE", {"tooltip": "The VAE of the checkpoint."}),
            }
        }

    def decode(self, samples: dict[str, torch.Tensor], vae: ImageCodec) -> tuple[torch.Tensor]:
        """IMAGE [B, H, W, 3] in 0..1. Raises EmbeddedError for too many pixels."""
        batch, *_, height, width = samples["samples"].shape
        check_pixels(width * vae.factor, height * vae.factor, batch)
        return (vae.decode(samples["samples"]),)


class VAEEncode:
    """IMAGE -> LATENT."""

    CATEGORY = "latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def encode(self, pixels: torch.Tensor, vae: ImageCodec) -> tuple[dict[str, torch.Tensor]]:
        """{"samples": [B, 4, H / 8, W / 8]}."""
        return ({"samples": vae.encode(pixels)},)


NODE_CLASS_MAPPINGS = {
    "CheckpointLoaderSimple": CheckpointLoaderSimple,
    "LoraLoader": LoraLoader,
    "CLIPTextEncode": CLIPTextEncode,
    "EmptyLatentImage": EmptyLatentImage,
    "VAEDecode": VAEDecode,
    "VAEEncode": VAEEncode,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "CheckpointLoaderSimple": "Load Checkpoint",
    "LoraLoader": "Load LoRA (Model and CLIP)",
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
    "EmptyLatentImage": "Empty Latent Image",
    "VAEDecode": "VAE Decode",
    "VAEEncode": "VAE Encode",
}

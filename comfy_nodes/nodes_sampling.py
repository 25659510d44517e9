"""Nodes that let one sampler call make images of different classes, each as if made alone.

CLIP and NOISE are used only through their methods, so these nodes need not import ComfyUI, and they
import torch only when they run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import PlanError
from .nodes_prompts import CATEGORY, PromptBatch

if TYPE_CHECKING:
    import torch

LATENT_CHANNELS = 4  # SD1.5
LATENT_SCALE = 8  # image pixels per latent pixel
# The options of a width or height widget.
IMAGE_SIZE = {"default": 512, "min": 16, "max": 16384, "step": LATENT_SCALE}


class EncodeClassPrompts:
    """SynthGrid Encode Class Prompts: CLIP and a batch -> positive and negative CONDITIONING."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Encodes every prompt of the batch with CLIP into one conditioning with one row per image. "
        "Prompts may have any length."
    )
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = (
        "One row per image, [B, tokens, width].",
        "The negative prompt, one row for all images.",
    )
    FUNCTION = "encode"
    SEARCH_ALIASES = ["clip text encode batch", "batch prompts"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder of the checkpoint."}),
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."}),
            }
        }

    def encode(self, clip: Any, batch: PromptBatch) -> tuple[list[Any], list[Any]]:
        """(positive [B, tokens, width], negative [1, tokens, width]); each prompt is encoded once.

        Raises:
            PlanError: the checkpoint has no text encoder.
        """
        if clip is None:
            raise PlanError(
                "clip input is empty: this checkpoint has no text encoder; load one with Load CLIP"
            )
        prompts = {text for spec in batch.specs for text in (spec.prompt, spec.negative_prompt)}
        encoded = {text: _encode(clip, text) for text in sorted(prompts)}
        positive = stack_conditionings([encoded[spec.prompt] for spec in batch.specs])
        return positive, encoded[batch.specs[0].negative_prompt]


class BatchLatent:
    """SynthGrid Batch Latent: an empty latent with exactly as many rows as the batch has images."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "An empty latent image with one row per image of the batch, also for a smaller last batch."
    )
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Empty latent, [B, 4, height / 8, width / 8].",)
    FUNCTION = "create"
    SEARCH_ALIASES = ["empty latent image"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        width = "Image width in pixels; SD1.5 was trained at 512."
        height = "Image height in pixels; SD1.5 was trained at 512."
        return {
            "required": {
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."}),
                "width": ("INT", IMAGE_SIZE | {"tooltip": width}),
                "height": ("INT", IMAGE_SIZE | {"tooltip": height}),
            }
        }

    def create(self, batch: PromptBatch, width: int, height: int) -> tuple[dict[str, Any]]:
        """LATENT {"samples": zeros [B, 4, height / 8, width / 8]}."""
        import torch

        shape = (len(batch.specs), LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE)
        return ({"samples": torch.zeros(shape)},)


class PerImageNoise:
    """SynthGrid Per-Image Noise: NOISE whose row i is drawn from image i's own seed."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Starting noise in which every image has its own seed: each image comes out as the stock "
        "KSampler would make it alone with that seed and prompt, for samplers that add no noise of "
        "their own (euler, dpmpp_2m, ddim, heun). With others, such as euler_ancestral or "
        "dpmpp_2m_sde, the saver warns that images cannot be made again alone."
    )
    RETURN_TYPES = ("NOISE",)
    RETURN_NAMES = ("noise",)
    OUTPUT_TOOLTIPS = ("For SamplerCustomAdvanced.",)
    FUNCTION = "create"
    SEARCH_ALIASES = ["random noise batch", "seed list"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."})
            }
        }

    def create(self, batch: PromptBatch) -> tuple[RowNoise]:
        """A NOISE object for the batch."""
        return (RowNoise([spec.seed for spec in batch.specs]),)


class RowNoise:
    """A NOISE object with one seed per row.

    `seed` is the first row's: samplers that draw noise in every step use it.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self.seed = self.seeds[0]

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        """Standard normal noise with the shape of latent["samples"], [B, C, h, w], on the CPU.

        Raises:
            PlanError: the latent does not have one row per seed; otherwise ComfyUI would silently
                drop or repeat prompts.
        """
        import torch

        samples = latent["samples"]
        if samples.shape[0] != len(self.seeds):
            raise PlanError(
                f"the latent has {samples.shape[0]} rows but the batch has {len(self.seeds)} "
                "images; connect SynthGrid Batch Latent to the sampler's latent_image"
            )
        rows = [self._row(seed, samples) for seed in self.seeds]
        return torch.cat(rows)

    @staticmethod
    def _row(seed: int, samples: torch.Tensor) -> torch.Tensor:
        """The noise that the stock sampler draws for a batch of one; torch's own state is kept."""
        import torch

        shape = (1, *samples.shape[1:])
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(
            shape, dtype=samples.dtype, layout=samples.layout, generator=generator, device="cpu"
        )


def stack_conditionings(conditionings: Sequence[list[Any]]) -> list[Any]:
    """Conditionings of one row each -> one conditioning of B rows, [B, tokens, width].

    Rows of different lengths are repeated up to their least common multiple. For attention that is
    the same as the row by itself: repeating every key and value changes no weighted mean.
    """
    import torch

    tensors = [conditioning[0][0] for conditioning in conditionings]
    length = math.lcm(*(tensor.shape[1] for tensor in tensors))
    rows = torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])
    extras = dict(conditionings[0][0][1])
    pooled = [conditioning[0][1].get("pooled_output") for conditioning in conditionings]
    if all(each is not None for each in pooled):
        extras["pooled_output"] = torch.cat(pooled)
    return [[rows, extras]]


def _encode(clip: Any, text: str) -> list[Any]:
    encoded: list[Any] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return encoded


NODE_CLASS_MAPPINGS = {
    "SynthGridEncodeClassPrompts": EncodeClassPrompts,
    "SynthGridBatchLatent": BatchLatent,
    "SynthGridPerImageNoise": PerImageNoise,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SynthGridEncodeClassPrompts": "SynthGrid Encode Class Prompts",
    "SynthGridBatchLatent": "SynthGrid Batch Latent",
    "SynthGridPerImageNoise": "SynthGrid Per-Image Noise",
}

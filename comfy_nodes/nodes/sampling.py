"""Nodes that let one sampler call make images of different classes, each as if made alone.

CLIP and NOISE are used only through their methods, so these nodes need not import ComfyUI, and they
import torch only when they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import PlanError
from .batcher import PromptBatch
from .conditioning import average, concat, refuse_mixers, stack_conditionings
from .prompts import CATEGORY

if TYPE_CHECKING:
    import torch

LATENT_CHANNELS = 4  # SD1.5
LATENT_SCALE = 8  # image pixels per latent pixel
# The options of a width or height widget.
IMAGE_SIZE = {"default": 512, "min": 16, "max": 16384, "step": LATENT_SCALE}
# In one batch: 1,024 images of 512 x 512. Far more than a GPU samples at once; our choice.
MOST_PIXELS = 2**28


def refuse_huge(count: int, width: int, height: int) -> None:
    """Raises PlanError for more than MOST_PIXELS pixels in one batch, before memory is taken."""
    if count * width * height > MOST_PIXELS:
        raise PlanError(
            f"{count} images of {width} x {height} pixels are too many for one batch; "
            f"at most {MOST_PIXELS // (width * height)} are possible: lower batch_size"
        )


class EncodeClassPrompts:
    """SynthGrid Encode Class Prompts: CLIP and a batch -> positive and negative CONDITIONING."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Encodes every prompt of the batch with CLIP into one conditioning, which has one for each "
        "image. Prompts may have any length."
    )
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = (
        "One for each image, [B, tokens, width].",
        "The negative prompt, one for all images.",
    )
    FUNCTION = "encode"
    SEARCH_ALIASES = [
        "clip text encode batch",
        "batch prompts",
        "conditioning average",
        "conditioning concat",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        other = "Optional: a conditioning of one prompt, such as from CLIP Text Encode"
        averaged = (
            f"{other}. Every prompt is averaged with it, as ConditioningAverage does for one image."
        )
        strength = "How much of the prompt is left when it is averaged: 1 is the prompt alone."
        joined = (
            f"{other}. Its tokens follow those of every prompt, as with ConditioningConcat for one "
            "image; after averaging."
        )
        share = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder of the checkpoint."}),
                "batch": ("SYNTHGRID_BATCH", {"tooltip": "From SynthGrid Class-Prompt Batcher."}),
            },
            "optional": {
                "average_with": ("CONDITIONING", {"tooltip": averaged}),
                "average_strength": ("FLOAT", share | {"tooltip": strength}),
                "concat_with": ("CONDITIONING", {"tooltip": joined}),
            },
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    # Whether a batch has had prompts of different lengths since ComfyUI was started.
    has_mixed_lengths = False

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float | str:
        """Not cached once lengths have mixed: a node added after this one has to be noticed."""
        return float("nan") if cls.has_mixed_lengths else ""

    def encode(
        self,
        clip: Any,
        batch: PromptBatch,
        average_with: list[Any] | None = None,
        average_strength: float = 1.0,
        concat_with: list[Any] | None = None,
        prompt: Mapping[str, Any] | None = None,
        unique_id: str | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """(positive [B, tokens, width], negative [1, tokens, width]); each prompt is encoded once.

        Raises:
            PlanError: the checkpoint has no text encoder, a conditioning to average or join has
                several rows, or a stock node after this one does what only this one can.
        """
        if clip is None:
            raise PlanError(
                "clip input is empty: this checkpoint has no text encoder; load one with Load CLIP"
            )
        encoded = {text: _encode(clip, text) for text in sorted({s.prompt for s in batch.specs})}
        for text, conditioning in encoded.items():
            if average_with is not None:
                conditioning = average(conditioning, average_with, average_strength)
            if concat_with is not None:
                conditioning = concat(conditioning, concat_with)
            encoded[text] = conditioning
        lengths = [conditioning[0][0].shape[1] for conditioning in encoded.values()]
        if len(set(lengths)) > 1:
            EncodeClassPrompts.has_mixed_lengths = True
        refuse_mixers(prompt or {}, unique_id, rows=len(batch.specs), lengths=lengths)
        positive = stack_conditionings([encoded[spec.prompt] for spec in batch.specs])
        return positive, _encode(clip, batch.specs[0].negative_prompt)


class BatchLatent:
    """SynthGrid Batch Latent: an empty latent with exactly as many rows as the batch has images."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "An empty latent image for each image of the batch, also for a smaller last batch."
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
        """LATENT {"samples": zeros [B, 4, height / 8, width / 8]}.

        Raises:
            PlanError: the batch has more than MOST_PIXELS pixels.
        """
        import torch

        refuse_huge(len(batch.specs), width, height)

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
                f"the latent has {samples.shape[0]} images but the batch has {len(self.seeds)}"
                "; connect SynthGrid Batch Latent to the sampler's latent_image"
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

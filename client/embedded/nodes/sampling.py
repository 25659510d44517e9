"""Core nodes that sample: KSampler, and the family around SamplerCustomAdvanced.

Names, inputs, ranges and outputs are ComfyUI's; the combos list the engine's own samplers and
schedulers. torch is imported when a node runs, so that the server answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import runtime
from ..limits import check_sampling

if TYPE_CHECKING:
    import torch

    from ..diffusion.guidance import Conditioning, DiffusionModel, Guider, RandomNoise
    from ..diffusion.samplers import Sampler

SAMPLER_NAMES = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "ddim"]
SCHEDULER_NAMES = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "normal"]
MAX_SEED = 2**64 - 1
_SAMPLING = "sampling/custom_sampling"
Inputs = dict[str, dict[str, Any]]
Latent = dict[str, Any]

_SEED = {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True}
_STEPS = {"default": 20, "min": 1, "max": 10000}
_CFG = {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}
_DENOISE = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}


def _combo(names: list[str]) -> tuple[str, dict[str, Any]]:
    """A combo as ComfyUI's newer nodes declare it."""
    return "COMBO", {"multiselect": False, "options": names}


class KSampler:
    """Noise, schedule, guidance and sampler in one node."""

    CATEGORY = "sampling"
    DESCRIPTION = "Removes noise from latents with the model and a positive and a negative prompt."
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The sampled latents.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model of the checkpoint."}),
                "seed": (
                    "INT",
                    _SEED | {"tooltip": "The starting noise follows from this number."},
                ),
                "steps": ("INT", _STEPS | {"tooltip": "Sampling steps."}),
                "cfg": (
                    "FLOAT",
                    _CFG
                    | {
                        "tooltip": "How strongly to follow the prompts; 1 ignores the negative one."
                    },
                ),
                "sampler_name": (SAMPLER_NAMES, {"tooltip": "The sampling algorithm."}),
                "scheduler": (SCHEDULER_NAMES, {"tooltip": "How the noise levels are spaced."}),
                "positive": ("CONDITIONING", {"tooltip": "What the images should show."}),
                "negative": ("CONDITIONING", {"tooltip": "What they should not show."}),
                "latent_image": ("LATENT", {"tooltip": "Where to start; empty for text to image."}),
                "denoise": (
                    "FLOAT",
                    _DENOISE | {"tooltip": "Below 1, the latents' own content is partly kept."},
                ),
            }
        }

    def sample(
        self,
        model: DiffusionModel,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        denoise: float = 1.0,
    ) -> tuple[Latent]:
        """The sampled LATENT."""
        from ..diffusion.guidance import Guider, RandomNoise
        from ..diffusion.samplers import SAMPLERS
        from ..diffusion.schedules import full_sigmas, make_sigmas

        is_whole = denoise > 0.9999
        sigmas = (
            full_sigmas(model.levels, scheduler, steps)
            if is_whole
            else make_sigmas(model.levels, scheduler, steps, denoise)
        )
        guider = Guider(model, positive, negative, cfg)
        return (
            _sample(RandomNoise(seed), guider, SAMPLERS[sampler_name], sigmas, latent_image)[0],
        )


class KSamplerSelect:
    """A sampler by its name."""

    CATEGORY = f"{_SAMPLING}/samplers"
    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "select"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"sampler_name": _combo(SAMPLER_NAMES)}}

    def select(self, sampler_name: str) -> tuple[Sampler]:
        """The sampler."""
        from ..diffusion.samplers import SAMPLERS

        return (SAMPLERS[sampler_name],)


class BasicScheduler:
    """The noise levels of a run."""

    CATEGORY = f"{_SAMPLING}/schedulers"
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "schedule"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "model": ("MODEL", {}),
                "scheduler": _combo(SCHEDULER_NAMES),
                "steps": ("INT", _STEPS),
                "denoise": ("FLOAT", _DENOISE),
            }
        }

    def schedule(
        self, model: DiffusionModel, scheduler: str, steps: int, denoise: float
    ) -> tuple[torch.Tensor]:
        """SIGMAS [steps + 1]."""
        from ..diffusion.schedules import make_sigmas

        return (make_sigmas(model.levels, scheduler, steps, denoise),)


class CFGGuider:
    """Classifier-free guidance."""

    CATEGORY = f"{_SAMPLING}/guiders"
    RETURN_TYPES = ("GUIDER",)
    FUNCTION = "guide"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "model": ("MODEL", {}),
                "positive": ("CONDITIONING", {}),
                "negative": ("CONDITIONING", {}),
                "cfg": ("FLOAT", _CFG),
            }
        }

    def guide(
        self, model: DiffusionModel, positive: Conditioning, negative: Conditioning, cfg: float
    ) -> tuple[Guider]:
        """The GUIDER."""
        from ..diffusion.guidance import Guider

        return (Guider(model, positive, negative, cfg),)


class RandomNoiseNode:
    """Starting noise from one seed."""

    CATEGORY = f"{_SAMPLING}/noise"
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "create"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"noise_seed": ("INT", _SEED)}}

    def create(self, noise_seed: int) -> tuple[RandomNoise]:
        """The NOISE."""
        from ..diffusion.guidance import RandomNoise

        return (RandomNoise(noise_seed),)


class SamplerCustomAdvanced:
    """Samples with noise, guider, sampler and schedule given apart."""

    CATEGORY = _SAMPLING
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("output", "denoised_output")
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        kinds = {
            "noise": "NOISE",
            "guider": "GUIDER",
            "sampler": "SAMPLER",
            "sigmas": "SIGMAS",
            "latent_image": "LATENT",
        }
        return {"required": {name: (kind, {}) for name, kind in kinds.items()}}

    def sample(
        self,
        noise: Any,
        guider: Guider,
        sampler: Sampler,
        sigmas: torch.Tensor,
        latent_image: Latent,
    ) -> tuple[Latent, Latent]:
        """The sampled LATENT, and the clean estimate of the last step."""
        return _sample(noise, guider, sampler, sigmas, latent_image)


def _sample(
    noise: Any, guider: Guider, sampler: Callable[..., Any], sigmas: torch.Tensor, latent: Latent
) -> tuple[Latent, Latent]:
    """Reports every step; whatever else is in the LATENT goes along.

    Raises EmbeddedError if the batch or the number of steps is too large.
    """
    steps = len(sigmas) - 1
    batch, *_, height, width = latent["samples"].shape
    check_sampling(width * 8, height * 8, batch, steps)
    sampled, denoised = guider.sample(
        noise.generate_noise(latent),
        latent["samples"],
        sampler,
        sigmas,
        seed=noise.seed,
        on_step=lambda done: runtime.report_progress(done, steps),
    )
    return latent | {"samples": sampled}, latent | {"samples": denoised}


NODE_CLASS_MAPPINGS = {
    "KSampler": KSampler,
    "KSamplerSelect": KSamplerSelect,
    "BasicScheduler": BasicScheduler,
    "CFGGuider": CFGGuider,
    "RandomNoise": RandomNoiseNode,
    "SamplerCustomAdvanced": SamplerCustomAdvanced,
}
NODE_DISPLAY_NAME_MAPPINGS = {"KSampler": "KSampler"}

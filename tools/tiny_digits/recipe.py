"""All the numbers of a training run, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Sizes and lengths of one training run.

    `renderings` is per real image; steps and batch sizes are per stage. The UNet's learning rate
    falls as if there were `unet_schedule_steps`; it is low enough before that.
    """

    seed: int = 0
    renderings: int = 20
    plain_share: float = 0.5
    empty_captions: float = 0.12
    style_only_captions: float = 0.04
    tokenizer_captions: int = 20_000
    text_steps: int = 1_000
    text_batch: int = 96
    vae_steps: int = 1_100
    vae_batch: int = 32
    polish_steps: int = 800
    unet_steps: int = 3_750
    unet_schedule_steps: int = 5_000
    unet_batch: int = 128

    def __post_init__(self) -> None:
        for name in ("renderings", "text_steps", "vae_steps", "polish_steps", "unet_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("plain_share", "empty_captions", "style_only_captions"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more, below 1")

    def quick(self) -> Recipe:
        """The same model after a few steps: all of it runs in under a minute, nothing is learnt."""
        return replace(
            self,
            renderings=1,
            tokenizer_captions=2_000,
            text_steps=10,
            text_batch=16,
            vae_steps=10,
            vae_batch=8,
            polish_steps=10,
            unet_steps=10,
            unet_schedule_steps=10,
            unet_batch=16,
        )

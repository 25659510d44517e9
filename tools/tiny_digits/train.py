"""Train the embedded engine's tiny text-to-image checkpoint from handwritten digits, on a CPU.

    synthgrid sample-data --out data/digits --train 30 --test 30 --set-aside data/set-aside
    python -m tools.tiny_digits.train --images data/set-aside --exclude data/digits \
        --out client/embedded/checkpoint

This reads images, refuses any that the demo uses, renders variations, and then trains four parts as
in Stable Diffusion: a tokenizer, a text encoder, an autoencoder, and a UNet that denoises its
latents. client/embedded/checkpoint/tiny-digits/README.md has the measured time and scores.
`--quick` runs all of it in under a minute and learns nothing.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from comfy_nodes.errors import SynthGridError

from . import autoencoder, diffusion, text_encoder
from .checkpoint import round_to_half, write_model_index, write_part, write_training_data
from .grammar import Description, caption, random_description
from .images import Digit, read_digits, refuse_overlap, render
from .recipe import Recipe
from .tokenizer import train_tokenizer

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "tiny-digits"
Rendered = tuple[np.ndarray, list[Description]]


def train_generator(
    images: Path, exclude: Path, out: Path, recipe: Recipe, *, threads: int = 2
) -> Path:
    """Train a checkpoint and write it to `out/tiny-digits`, which is returned.

    Deterministic, given recipe.seed.

    Raises:
        GeneratorDataError: an image of `images` is also in `exclude`; raised before any training.
    """
    started = time.monotonic()
    torch.set_num_threads(threads)
    digits = read_digits(images)
    compared = refuse_overlap(digits, exclude)
    logger.info("%d training images, none of them among the %d to exclude", len(digits), compared)
    folder = out / CHECKPOINT_NAME
    write_model_index(folder)
    rendered = render_variety(digits, recipe)

    torch.manual_seed(recipe.seed)
    captions = _captions_for_tokenizer(recipe)
    tokenizer = train_tokenizer(captions, folder / "tokenizer")
    encoder = text_encoder.build_text_encoder(tokenizer)
    understood = text_encoder.teach_grammar(
        encoder, tokenizer, steps=recipe.text_steps, batch=recipe.text_batch, seed=recipe.seed
    )
    encoder.eval().requires_grad_(False)
    write_part(folder, "text_encoder", encoder)

    latents, psnr = _train_vae(folder, rendered[0], recipe)
    _train_unet(folder, tokenizer, encoder, latents, rendered[1], recipe)

    minutes = round((time.monotonic() - started) / 60, 1)
    measured = {
        "training_minutes": minutes,
        "autoencoder_psnr_db": round(psnr, 1),
        "attributes_understood": understood,
    }
    write_training_data(folder, digits, recipe, measured)
    logger.info("wrote %s after %.1f minutes", folder, minutes)
    return folder


def render_variety(digits: list[Digit], recipe: Recipe) -> Rendered:
    """uint8 [N * renderings,64,64,3] and the description of each row."""
    rng = random.Random(recipe.seed)
    descriptions, images = [], []
    for digit in digits:
        for _ in range(recipe.renderings):
            descriptions.append(
                random_description(digit.label, rng, plain_share=recipe.plain_share)
            )
            images.append(render(digit.ink, descriptions[-1], rng))
    return np.stack(images), descriptions


def _captions_for_tokenizer(recipe: Recipe) -> list[str]:
    rng = random.Random(recipe.seed)
    described = [
        random_description(number % 10, rng) for number in range(recipe.tokenizer_captions)
    ]
    return [caption(description, rng) for description in described]


def _train_vae(folder: Path, images: np.ndarray, recipe: Recipe) -> tuple[torch.Tensor, float]:
    """Train and write the VAE; returns all images' scaled latents [N,4,8,8] and the PSNR in dB."""
    torch.manual_seed(recipe.seed + 1)
    vae = autoencoder.build_autoencoder()
    autoencoder.train_autoencoder(
        vae, images, steps=recipe.vae_steps, batch=recipe.vae_batch, seed=recipe.seed + 1
    )
    autoencoder.standardize(
        vae, autoencoder.encode_all(vae, images[:: max(1, len(images) // 2000)])
    )
    round_to_half(vae)
    latents = autoencoder.encode_all(vae, images)
    autoencoder.polish_decoder(
        vae,
        latents,
        images,
        steps=recipe.polish_steps,
        batch=recipe.vae_batch,
        seed=recipe.seed + 3,
    )
    write_part(folder, "vae", vae)
    psnr = autoencoder.reconstruction_psnr(vae, images[::100])
    latents *= autoencoder.SCALING_FACTOR
    logger.info(
        "autoencoder: %.1f dB; latents have mean %.3f and deviation %.3f",
        psnr,
        latents.mean(),
        latents.std(),
    )
    return latents, psnr


def _train_unet(
    folder: Path,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel,
    latents: torch.Tensor,
    descriptions: list[Description],
    recipe: Recipe,
) -> None:
    encode = text_encoder.ContextEncoder(encoder, tokenizer)

    def contexts(rows: list[int], rng: random.Random) -> torch.Tensor:
        return encode([_training_caption(descriptions[row], rng, recipe) for row in rows])

    torch.manual_seed(recipe.seed + 2)
    average = diffusion.train_unet(
        diffusion.build_unet(),
        latents,
        contexts,
        steps=recipe.unet_steps,
        schedule_steps=recipe.unet_schedule_steps,
        batch=recipe.unet_batch,
        seed=recipe.seed + 2,
        on_checkpoint=lambda unet: write_part(folder, "unet", unet),
    )
    write_part(folder, "unet", average)


def _training_caption(description: Description, rng: random.Random, recipe: Recipe) -> str:
    """Mostly the whole caption; sometimes none, for guidance, or only a style, as in negatives."""
    draw = rng.random()
    if draw < recipe.empty_captions:
        return ""
    if draw < recipe.empty_captions + recipe.style_only_captions:
        style = (description.context, description.stroke, description.weight, description.tilt)
        return caption(Description(None, *style), rng)
    return caption(description, rng)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny_digits.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="class folders 0..9 to learn from (the set-aside images)",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        required=True,
        help="folder whose images must not be used (the demo's)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help=f"the checkpoint is written to OUT/{CHECKPOINT_NAME}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smoke test: a few steps of everything"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default: 2)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    recipe = Recipe(seed=options.seed)
    recipe = recipe.quick() if options.quick else recipe
    try:
        folder = train_generator(
            options.images, options.exclude, options.out, recipe, threads=options.threads
        )
    except SynthGridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

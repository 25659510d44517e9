"""A random checkpoint in the shape of SDXL, made like that of Stable Diffusion 1.5: a few MB as a
file, and some 7 GB of memory once ComfyUI has loaded it.

The UNet has SDXL's widths, its context of 2,048 numbers and its pooled text, with as few blocks as
ComfyUI takes for an SDXL, those of KOALA-700M (arXiv 2312.04005). Both text encoders are complete,
because ComfyUI leaves missing layers uninitialised; the VAE is a small TAESD.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from sd15_checkpoint import (
    EMBEDDING,
    WIDTH,
    Shapes,
    autoencoder,
    layer,
    residual,
    text_encoder,
    transformer,
    write_tensors,
)

NAME = "synthgrid-test-xl.ckpt"
CONTEXT, POOLED_AND_SIZES = 2048, 2816
LARGE, LAYERS = 1280, 32  # of the text model of CLIP ViT-bigG/14


def write_checkpoint(path: Path, seed: int = 0) -> None:
    """Writes the checkpoint; the same seed gives the same weights."""
    first = text_encoder("conditioner.embedders.0.transformer.text_model")
    write_tensors(path, chain(_unet(), autoencoder(), first, _large_text_encoder()), seed)


def _unet() -> Shapes:
    root = "model.diffusion_model"
    for name, width in (("time_embed", WIDTH), ("label_emb.0", POOLED_AND_SIZES)):
        yield from layer(f"{root}.{name}.0", EMBEDDING, width)
        yield from layer(f"{root}.{name}.2", EMBEDDING, EMBEDDING)
    yield from layer(f"{root}.input_blocks.0.0", WIDTH, 4, 3, 3)
    for number, before, width, depth in ((1, 1, 1, 0), (3, 1, 2, 2), (5, 2, 4, 5)):
        block = f"{root}.input_blocks.{number}"
        yield from residual(f"{block}.0", before * WIDTH, width * WIDTH)
        if depth:
            yield from _attention(f"{block}.1", width * WIDTH, depth)
    for number, width in ((2, 1), (4, 2)):
        yield from layer(f"{root}.input_blocks.{number}.0.op", width * WIDTH, width * WIDTH, 3, 3)
    # The channels of the block before and of the input block that is joined, in units of WIDTH.
    for number, before, width in ((0, 8, 4), (1, 6, 4), (2, 6, 2), (3, 3, 2), (4, 3, 1), (5, 2, 1)):
        yield from residual(f"{root}.output_blocks.{number}.0", before * WIDTH, width * WIDTH)
    for number, width in ((1, 4), (3, 2)):
        yield from layer(
            f"{root}.output_blocks.{number}.1.conv", width * WIDTH, width * WIDTH, 3, 3
        )
    yield from layer(f"{root}.out.0", WIDTH)
    yield from layer(f"{root}.out.2", 4, WIDTH, 3, 3)


def _attention(name: str, width: int, depth: int) -> Shapes:
    yield from transformer(name, width, text=CONTEXT, depth=depth, is_linear=True)


def _large_text_encoder() -> Shapes:
    root = "conditioner.embedders.1.model"
    yield f"{root}.token_embedding.weight", (49408, LARGE)
    yield f"{root}.positional_embedding", (77, LARGE)
    yield f"{root}.text_projection", (LARGE, LARGE)
    for number in range(LAYERS):
        block = f"{root}.transformer.resblocks.{number}"
        yield f"{block}.attn.in_proj_weight", (3 * LARGE, LARGE)
        yield f"{block}.attn.in_proj_bias", (3 * LARGE,)
        yield from layer(f"{block}.attn.out_proj", LARGE, LARGE)
        yield from layer(f"{block}.mlp.c_fc", 4 * LARGE, LARGE)
        yield from layer(f"{block}.mlp.c_proj", LARGE, 4 * LARGE)
        for norm in ("ln_1", "ln_2"):
            yield from layer(f"{block}.{norm}", LARGE)
    yield from layer(f"{root}.ln_final", LARGE)

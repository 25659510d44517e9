"""A random checkpoint in the shape of Stable Diffusion 1.5, small enough for a test: under 2 MB.

ComfyUI recognises a model by the names and shapes of its tensors. Here every large tensor is a view
of one random storage of 65,536 numbers, which torch.save writes once. The UNet has one level (13.6M
parameters) and the VAE is a small TAESD; CLIP is complete, 12 layers of width 768, because ComfyUI
leaves missing layers uninitialised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch

NAME = "synthgrid-test.ckpt"
STORAGE = 65_536
WIDTH, EMBEDDING, TEXT = 320, 1280, 768

_TEXT_ROOT = "cond_stage_model.transformer.text_model"
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_checkpoint(path: Path, seed: int = 0) -> None:
    """Writes the checkpoint; the same seed gives the same weights."""
    write_tensors(path, chain(_unet(), autoencoder(), text_encoder(_TEXT_ROOT)), seed)


def write_tensors(path: Path, shapes: Shapes, seed: int) -> None:
    """Writes random tensors of these names and shapes: scales are 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    storage = (torch.randn(STORAGE, generator=generator) * 0.03).half()
    ones, zeros = torch.ones(STORAGE // 4).half(), torch.zeros(STORAGE // 4).half()
    tensors = {}
    for name, shape in shapes:
        if len(shape) > 1:
            tensors[name] = _view(storage, shape)
        else:
            tensors[name] = (ones if _is_scale(name) else zeros)[: shape[0]]
    torch.save({"state_dict": tensors}, path)


def _is_scale(name: str) -> bool:
    return name.endswith(".weight")


def _view(storage: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose rows are overlapping windows of the storage, as far apart as it allows."""
    row = math.prod(shape[1:])
    step = max(1, (STORAGE - row) // max(1, shape[0] - 1))
    strides = [step] + [math.prod(shape[axis + 1 :]) for axis in range(1, len(shape))]
    return torch.as_strided(storage, shape, strides)


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    """A weight of this shape, and a bias."""
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def residual(name: str, channels_in: int, width: int = WIDTH) -> Shapes:
    """A residual block of the UNet."""
    yield from layer(f"{name}.in_layers.0", channels_in)
    yield from layer(f"{name}.in_layers.2", width, channels_in, 3, 3)
    yield from layer(f"{name}.emb_layers.1", width, EMBEDDING)
    yield from layer(f"{name}.out_layers.0", width)
    yield from layer(f"{name}.out_layers.3", width, width, 3, 3)
    if channels_in != width:
        yield from layer(f"{name}.skip_connection", width, channels_in, 1, 1)


def transformer(
    name: str, width: int = WIDTH, *, text: int = TEXT, depth: int = 1, is_linear: bool = False
) -> Shapes:
    """Blocks of attention to themselves and to the text, between two projections."""
    kernel = () if is_linear else (1, 1)
    yield from layer(f"{name}.norm", width)
    yield from layer(f"{name}.proj_in", width, width, *kernel)
    yield from layer(f"{name}.proj_out", width, width, *kernel)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, context in (("attn1", width), ("attn2", text)):
            for projection, size in (("to_q", width), ("to_k", context), ("to_v", context)):
                yield from layer(f"{block}.{attention}.{projection}", width, size, bias=False)
            yield from layer(f"{block}.{attention}.to_out.0", width, width)
        yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from layer(f"{block}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from layer(f"{block}.{norm}", width)


def _unet() -> Shapes:
    root = "model.diffusion_model"
    yield from layer(f"{root}.time_embed.0", EMBEDDING, WIDTH)
    yield from layer(f"{root}.time_embed.2", EMBEDDING, EMBEDDING)
    yield from layer(f"{root}.input_blocks.0.0", WIDTH, 4, 3, 3)
    for name, channels_in in (
        ("input_blocks.1", WIDTH),
        ("output_blocks.0", 2 * WIDTH),
        ("output_blocks.1", 2 * WIDTH),
    ):
        yield from residual(f"{root}.{name}.0", channels_in)
        yield from transformer(f"{root}.{name}.1")
    yield from residual(f"{root}.middle_block.0", WIDTH)
    yield from transformer(f"{root}.middle_block.1")
    yield from residual(f"{root}.middle_block.2", WIDTH)
    yield from layer(f"{root}.out.0", WIDTH)
    yield from layer(f"{root}.out.2", 4, WIDTH, 3, 3)


def autoencoder() -> Shapes:
    """TAESD: numbered layers; those not listed have no weights. Resampling layers have no bias."""
    encoder, decoder = "first_stage_model.taesd_encoder", "first_stage_model.taesd_decoder"
    yield from layer(f"{encoder}.0", 64, 3, 3, 3)
    yield from layer(f"{decoder}.1", 64, 4, 3, 3)
    for root, resampling, blocks in (
        (encoder, (2, 6, 10), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)),
        (decoder, (7, 12, 17), (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)),
    ):
        for number in resampling:
            yield from layer(f"{root}.{number}", 64, 64, 3, 3, bias=False)
        for number in blocks:
            for convolution in (0, 2, 4):
                yield from layer(f"{root}.{number}.conv.{convolution}", 64, 64, 3, 3)
    yield from layer(f"{encoder}.14", 4, 64, 3, 3)
    yield from layer(f"{decoder}.19", 3, 64, 3, 3)


def text_encoder(root: str) -> Shapes:
    """The text model of CLIP ViT-L/14."""
    yield f"{root}.embeddings.token_embedding.weight", (49408, TEXT)
    yield f"{root}.embeddings.position_embedding.weight", (77, TEXT)
    for number in range(12):
        place = f"{root}.encoder.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from layer(f"{place}.self_attn.{projection}", TEXT, TEXT)
        yield from layer(f"{place}.mlp.fc1", 4 * TEXT, TEXT)
        yield from layer(f"{place}.mlp.fc2", TEXT, 4 * TEXT)
        for norm in ("layer_norm1", "layer_norm2"):
            yield from layer(f"{place}.{norm}", TEXT)
    yield from layer(f"{root}.final_layer_norm", TEXT)

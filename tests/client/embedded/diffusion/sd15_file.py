"""A checkpoint file with the tensor names and the structure of SD1.5 and random weights, as narrow
as a test needs; with the widths of `REAL` it has every shape of the release."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = Iterator[tuple[str, tuple[int, ...]]]
UNET, VAE = "model.diffusion_model", "first_stage_model"
TEXT = "cond_stage_model.transformer.text_model"


@dataclass(frozen=True)
class Sizes:
    """Widths of UNet and VAE by level, and of the text encoder."""

    unet: tuple[int, ...] = (32, 32, 64, 64)
    vae: tuple[int, ...] = (32, 32, 32, 32)
    text: int = 64
    layers: int = 2
    words: int = 49408
    channels: int = 4


REAL = Sizes((320, 640, 1280, 1280), (128, 256, 512, 512), 768, 12)


def write_sd15(path: Path, sizes: Sizes = Sizes(), *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Writes the file in float16 and returns its tensors."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in (*_unet(sizes), *_vae(sizes.vae), *_text(sizes)):
        scale = 1.0 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
        values = torch.randn(shape, generator=generator) * scale
        is_norm = len(shape) == 1 and name.endswith(".weight")
        tensors[name] = (values + 1.0 if is_norm else values).half()
    save_file(tensors, path)
    return tensors


def _layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _unet(sizes: Sizes) -> Shapes:
    first, time = sizes.unet[0], 4 * sizes.unet[0]

    def residual(name: str, given: int, width: int) -> Shapes:
        yield from _layer(f"{name}.in_layers.0", given)
        yield from _layer(f"{name}.in_layers.2", width, given, 3, 3)
        yield from _layer(f"{name}.emb_layers.1", width, time)
        yield from _layer(f"{name}.out_layers.0", width)
        yield from _layer(f"{name}.out_layers.3", width, width, 3, 3)
        if given != width:
            yield from _layer(f"{name}.skip_connection", width, given, 1, 1)

    def transformer(name: str, width: int) -> Shapes:
        yield from _layer(f"{name}.norm", width)
        yield from _layer(f"{name}.proj_in", width, width, 1, 1)
        block = f"{name}.transformer_blocks.0"
        for attention, context in (("attn1", width), ("attn2", sizes.text)):
            yield from _layer(f"{block}.{attention}.to_q", width, width, bias=False)
            yield from _layer(f"{block}.{attention}.to_k", width, context, bias=False)
            yield from _layer(f"{block}.{attention}.to_v", width, context, bias=False)
            yield from _layer(f"{block}.{attention}.to_out.0", width, width)
        yield from _layer(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from _layer(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            yield from _layer(f"{block}.norm{number}", width)
        yield from _layer(f"{name}.proj_out", width, width, 1, 1)

    yield from _layer(f"{UNET}.time_embed.0", time, first)
    yield from _layer(f"{UNET}.time_embed.2", time, time)
    yield from _layer(f"{UNET}.input_blocks.0.0", first, sizes.channels, 3, 3)
    skips, given, number = [first], first, 1
    for level, width in enumerate(sizes.unet):
        for _ in range(2):
            yield from residual(f"{UNET}.input_blocks.{number}.0", given, width)
            if level < 3:
                yield from transformer(f"{UNET}.input_blocks.{number}.1", width)
            given = width
            skips.append(given)
            number += 1
        if level < 3:
            yield from _layer(f"{UNET}.input_blocks.{number}.0.op", width, width, 3, 3)
            skips.append(given)
            number += 1
    yield from residual(f"{UNET}.middle_block.0", given, given)
    yield from transformer(f"{UNET}.middle_block.1", given)
    yield from residual(f"{UNET}.middle_block.2", given, given)
    number = 0
    for level, width in reversed(list(enumerate(sizes.unet))):
        for place in range(3):
            block = f"{UNET}.output_blocks.{number}"
            yield from residual(f"{block}.0", given + skips.pop(), width)
            if level < 3:
                yield from transformer(f"{block}.1", width)
            if place == 2 and level > 0:
                yield from _layer(f"{block}.{2 if level < 3 else 1}.conv", width, width, 3, 3)
            given = width
            number += 1
    yield from _layer(f"{UNET}.out.0", first)
    yield from _layer(f"{UNET}.out.2", 4, first, 3, 3)


def _vae(widths: tuple[int, ...]) -> Shapes:
    def residual(name: str, given: int, width: int) -> Shapes:
        yield from _layer(f"{name}.norm1", given)
        yield from _layer(f"{name}.conv1", width, given, 3, 3)
        yield from _layer(f"{name}.norm2", width)
        yield from _layer(f"{name}.conv2", width, width, 3, 3)
        if given != width:
            yield from _layer(f"{name}.nin_shortcut", width, given, 1, 1)

    def middle(root: str, width: int) -> Shapes:
        yield from residual(f"{root}.mid.block_1", width, width)
        yield from _layer(f"{root}.mid.attn_1.norm", width)
        for each in ("q", "k", "v", "proj_out"):
            yield from _layer(f"{root}.mid.attn_1.{each}", width, width, 1, 1)
        yield from residual(f"{root}.mid.block_2", width, width)

    encoder, decoder = f"{VAE}.encoder", f"{VAE}.decoder"
    yield from _layer(f"{encoder}.conv_in", widths[0], 3, 3, 3)
    given = widths[0]
    for level, width in enumerate(widths):
        for number in range(2):
            yield from residual(f"{encoder}.down.{level}.block.{number}", given, width)
            given = width
        if level < 3:
            yield from _layer(f"{encoder}.down.{level}.downsample.conv", width, width, 3, 3)
    yield from middle(encoder, given)
    yield from _layer(f"{encoder}.norm_out", given)
    yield from _layer(f"{encoder}.conv_out", 8, given, 3, 3)
    yield from _layer(f"{decoder}.conv_in", given, 4, 3, 3)
    yield from middle(decoder, given)
    for level, width in reversed(list(enumerate(widths))):
        for number in range(3):
            yield from residual(f"{decoder}.up.{level}.block.{number}", given, width)
            given = width
        if level > 0:
            yield from _layer(f"{decoder}.up.{level}.upsample.conv", width, width, 3, 3)
    yield from _layer(f"{decoder}.norm_out", given)
    yield from _layer(f"{decoder}.conv_out", 3, given, 3, 3)
    yield from _layer(f"{VAE}.quant_conv", 8, 8, 1, 1)
    yield from _layer(f"{VAE}.post_quant_conv", 4, 4, 1, 1)


def _text(sizes: Sizes) -> Shapes:
    yield f"{TEXT}.embeddings.token_embedding.weight", (sizes.words, sizes.text)
    yield f"{TEXT}.embeddings.position_embedding.weight", (77, sizes.text)
    for number in range(sizes.layers):
        place = f"{TEXT}.encoder.layers.{number}"
        for each in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{place}.self_attn.{each}", sizes.text, sizes.text)
        yield from _layer(f"{place}.mlp.fc1", 4 * sizes.text, sizes.text)
        yield from _layer(f"{place}.mlp.fc2", sizes.text, 4 * sizes.text)
        for each in ("layer_norm1", "layer_norm2"):
            yield from _layer(f"{place}.{each}", sizes.text)
    yield from _layer(f"{TEXT}.final_layer_norm", sizes.text)

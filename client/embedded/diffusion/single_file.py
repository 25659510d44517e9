"""Loads Stable Diffusion 1.5 from one .safetensors file, with the tensor names of the original
release. The structure is that of SD1.5; widths and depths are read from the tensors.

diffusers renames the tensors. Such a file has no tokenizer: it is taken from a folder `tokenizer`
beside the file, or from the package open_clip_torch, whose vocabulary is the same.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import EmbeddedError

Tensors = dict[str, torch.Tensor]

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_TEXT = "cond_stage_model.transformer."
_LEVELS = 4
_LATENT_SCALE = 0.18215
_OTHER_MODELS = {  # a tensor that begins so -> what the file is
    "conditioner.embedders.": "an SDXL model",
    "cond_stage_model.model.": "a Stable Diffusion 2 model",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 model",
    "model.diffusion_model.double_blocks.": "a Flux model",
    "down_blocks.": "a UNet alone",
    "lora_": "a LoRA",
}
_MERGES = 49152 - 256 - 2  # of the vocabulary file, after its first line


def read(path: Path) -> Tensors:
    """The tensors of a checkpoint file of SD1.5.

    Raises:
        EmbeddedError: the file is damaged, or holds another kind of model.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EmbeddedError(f"checkpoint '{path.name}' cannot be read: {error}") from None
    for start, what in _OTHER_MODELS.items():
        if any(name.startswith(start) for name in tensors):
            raise EmbeddedError(
                f"checkpoint '{path.name}' is {what}; the engine takes SD1.5 files that have UNet, "
                "VAE and text encoder"
            )
    for part, start in {"UNet": _UNET, "VAE": _VAE, "text encoder": _TEXT}.items():
        if not any(name.startswith(start) for name in tensors):
            raise EmbeddedError(
                f"checkpoint '{path.name}' has no {part} ({start}...); the engine takes SD1.5 "
                "files that have all three parts"
            )
    return tensors


def unet(tensors: Tensors, path: Path, dtype: torch.dtype) -> Any:
    """The UNet2DConditionModel, its latents 4 channels."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    def width(level: int) -> int:
        block = f"{_UNET}input_blocks.{1 + 3 * level}.0"
        return _shape(tensors, path, f"{block}.out_layers.3.weight")[0]

    channels = _shape(tensors, path, f"{_UNET}input_blocks.0.0.weight")[1]
    if channels != 4:
        raise EmbeddedError(
            f"checkpoint '{path.name}' takes {channels} channels, as models for inpainting do; the "
            "engine takes SD1.5 files of 4"
        )
    attention = f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    with torch.device("meta"):
        model = UNet2DConditionModel(
            sample_size=64,
            block_out_channels=tuple(map(width, range(_LEVELS))),
            layers_per_block=2,
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            cross_attention_dim=_shape(tensors, path, attention)[1],
            attention_head_dim=8,  # diffusers' name for the number of heads
        )
    found = convert_ldm_unet_checkpoint(dict(tensors), dict(model.config))
    return _filled(model, found, path, "UNet", dtype)


def vae(tensors: Tensors, path: Path, dtype: torch.dtype) -> Any:
    """The AutoencoderKL."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    widths = tuple(
        _shape(tensors, path, f"{_VAE}encoder.down.{level}.block.0.conv1.weight")[0]
        for level in range(_LEVELS)
    )
    with torch.device("meta"):
        model = AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * _LEVELS,
            up_block_types=("UpDecoderBlock2D",) * _LEVELS,
            layers_per_block=2,
            scaling_factor=_LATENT_SCALE,
        )
    found = convert_ldm_vae_checkpoint(dict(tensors), dict(model.config))
    return _filled(model, found, path, "VAE", dtype)


def text_encoder(tensors: Tensors, path: Path, dtype: torch.dtype) -> Any:
    """The CLIPTextModel; CLIP's heads are 64 wide."""
    from transformers import CLIPTextConfig, CLIPTextModel

    found = {
        name.removeprefix(_TEXT): each for name, each in tensors.items() if name.startswith(_TEXT)
    }
    inner = "text_model."
    words, width = _shape(found, path, f"{inner}embeddings.token_embedding.weight")
    layers = {name.split(".")[3] for name in found if name.startswith(f"{inner}encoder.layers.")}
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=_shape(found, path, f"{inner}encoder.layers.0.mlp.fc1.weight")[0],
            num_hidden_layers=len(layers),
            num_attention_heads=max(1, width // 64),
            max_position_embeddings=_shape(
                found, path, f"{inner}embeddings.position_embedding.weight"
            )[0],
            hidden_act="quick_gelu",
            projection_dim=width,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
    )
    # A buffer that older files have; and newer versions of transformers dropped the outer name.
    found.pop(f"{inner}embeddings.position_ids", None)
    if not any(name.startswith(inner) for name in model.state_dict()):
        found = {name.removeprefix(inner): each for name, each in found.items()}
    return _filled(model, found, path, "text encoder", dtype)


def tokenizer(path: Path) -> Any:
    """The CLIPTokenizer of a checkpoint file.

    Raises:
        EmbeddedError: neither the file nor a package brings one.
    """
    from transformers import CLIPTokenizer

    beside = path.parent / "tokenizer"
    if beside.is_dir():
        return CLIPTokenizer.from_pretrained(beside, local_files_only=True)
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"checkpoint '{path.name}' has no tokenizer; install one with: "
            f"python -m pip install 'synthgrid[sd]', or put vocab.json and merges.txt of CLIP "
            f"ViT-L/14 into {beside}"
        )
    packed = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(packed, Path(folder))
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def write_tokenizer(packed: Path, folder: Path) -> None:
    """CLIP's merges as its authors packed them -> vocab.json, merges.txt, tokenizer_config.json.

    The vocabulary is the bytes, the bytes that end a word, the merges, begin and end (Radford et
    al. 2021, arXiv 2103.00020, and its code).
    """
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : _MERGES + 1]
    letters = _byte_letters()
    words = [*letters, *(f"{each}</w>" for each in letters)]
    words += ["".join(line.split()) for line in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    special = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    config = special | {"bos_token": "<|startoftext|>", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def _byte_letters() -> list[str]:
    """A letter for each byte, those that print first, in the order of CLIP's vocabulary."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printing]
    return [*map(chr, printing), *(chr(256 + place) for place in range(len(rest)))]


def _shape(tensors: Mapping[str, torch.Tensor], path: Path, name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise EmbeddedError(
            f"checkpoint '{path.name}' has no tensor {name}; it is damaged or no SD1.5 model"
        )
    return tuple(tensors[name].shape)


def _filled(model: Any, tensors: Tensors, path: Path, part: str, dtype: torch.dtype) -> Any:
    """The model with these tensors, none too many and none too few."""
    given = {name: each.to(dtype) for name, each in tensors.items()}
    try:
        model.load_state_dict(given, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise EmbeddedError(
            f"checkpoint '{path.name}': {part} does not have the shape of SD1.5: {reason[:300]}"
        ) from None
    return model

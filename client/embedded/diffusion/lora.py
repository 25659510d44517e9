"""A LoRA added to a checkpoint: W + strength * alpha / rank * up @ down, for every layer it has.

Method: Hu et al. 2021, LoRA (arXiv 2106.09685). Files are those of kohya's sd-scripts
("lora_unet_down_blocks_0_..._to_q.lora_up.weight", ".lora_down.weight", ".alpha") and of diffusers
("unet.down_blocks.0....to_q.lora.up.weight" or ".lora_B.weight"). Other kinds are refused.
"""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import EmbeddedError
from .guidance import DiffusionModel
from .text_encoding import TextEncoder

log = logging.getLogger(__name__)

_KEY = re.compile(
    r"(?:lora_unet_|unet\.|(?P<text>lora_te_|text_encoder\.))(?P<layer>.+?)\."
    r"(?:(?P<up>lora_up\.weight|lora\.up\.weight|lora_B\.weight)"
    r"|(?P<down>lora_down\.weight|lora\.down\.weight|lora_A\.weight)|(?P<alpha>alpha))"
)
_Layers = dict[str, dict[str, torch.Tensor]]  # layer, "_" for "." -> up, down, perhaps alpha


def with_lora(
    model: DiffusionModel,
    clip: TextEncoder,
    path: Path,
    strength_model: float,
    strength_clip: float,
) -> tuple[DiffusionModel, TextEncoder]:
    """The model and its text encoder with a LoRA; those given stay as they are.

    Layers that the LoRA does not change are shared with them. Layers of the file that the models do
    not have are left out, with a warning.

    Raises:
        EmbeddedError: the file cannot be read, is no plain LoRA, or fits no layer of the models.
    """
    of_unet, of_text = _read(path)
    unet, unknown = _added(model.unet, of_unet, strength_model, path)
    text, unknown_text = _added(clip.model, of_text, strength_clip, path)
    if (left_out := unknown + unknown_text) == len(of_unet) + len(of_text):
        raise EmbeddedError(
            f"LoRA '{path.name}' fits no layer of this checkpoint; it is for another kind of model"
        )
    if left_out:
        log.warning("LoRA %s: %d layers that the checkpoint does not have", path.name, left_out)
    return model.with_unet(unet), clip.with_model(text)


def _read(path: Path) -> tuple[_Layers, _Layers]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EmbeddedError(f"LoRA '{path.name}' cannot be read: {error}") from None
    of_unet: _Layers = {}
    of_text: _Layers = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise EmbeddedError(
                f"LoRA '{path.name}' has '{key[:80]}'; the engine takes plain LoRAs for SD1.5"
            )
        part = next(name for name in ("up", "down", "alpha") if found[name])
        layers = of_text if found["text"] else of_unet
        layers.setdefault(found["layer"].replace(".", "_"), {})[part] = tensor
    if lacking := [
        name for name, each in (of_unet | of_text).items() if not {"up", "down"} <= each.keys()
    ]:
        raise EmbeddedError(f"LoRA '{path.name}' lacks a part of layer '{lacking[0][:80]}'")
    return of_unet, of_text


def _added(module: Any, layers: _Layers, strength: float, path: Path) -> tuple[Any, int]:
    """(the module with the layers added, how many of them it does not have)."""
    known = {name.replace(".", "_"): name for name, _ in module.named_modules()}
    # Newer versions of transformers have dropped the outer name that LoRAs of CLIP begin with.
    known |= {f"text_model_{name}": whole for name, whole in known.items()}
    changes = {known[name]: each for name, each in layers.items() if name in known}
    if not changes or strength == 0.0:
        return module, len(layers) - len(changes)
    changed = {id(module.get_submodule(name).weight) for name in changes}
    tensors = [*module.parameters(), *module.buffers()]
    kept = {id(each): each for each in tensors if id(each) not in changed}
    copied = copy.deepcopy(module, kept)
    for name, each in changes.items():
        weight = copied.get_submodule(name).weight
        with torch.no_grad():
            weight += (strength * _change(weight, each, name, path)).to(weight)
    return copied, len(layers) - len(changes)


def _change(
    weight: torch.Tensor, layer: dict[str, torch.Tensor], name: str, path: Path
) -> torch.Tensor:
    """alpha / rank * up @ down, float32, in the shape of the weight."""
    up, down = layer["up"].float(), layer["down"].float()
    rank = down.shape[0]
    scale = float(layer["alpha"]) / rank if "alpha" in layer else 1.0
    try:
        return scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    except RuntimeError:
        raise EmbeddedError(
            f"LoRA '{path.name}': layer '{name}' is {tuple(up.shape)} x {tuple(down.shape)} but "
            f"the checkpoint's is {tuple(weight.shape)}; it is for another kind of model"
        ) from None

"""The tensors of a weights file, put into a network that may call them otherwise."""

from __future__ import annotations

import functools
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from trainer.errors import WeightsError
from trainer.models.registry import ModelSpec, installed_file, model_spec

logger = logging.getLogger(__name__)

# torchvision's file has 'denselayer1.norm.1.weight' while the module is called 'norm1'.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file of safetensors or of torch; no other pickled object is loaded.

    Raises:
        WeightsError: the file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
    ) as error:
        reason = str(error).split("\n")[0][:120]
        raise WeightsError(
            f"cannot read the weights in {path}: {reason}; expected safetensors or a state dict"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise WeightsError(
            f"{path} does not contain a state dict (names to tensors); save the model's "
            "state_dict()"
        )
    return state


def load_state(
    network: nn.Module, state: dict[str, torch.Tensor], *, model: str, path: Path
) -> None:
    """Puts the tensors of the file `path` into all but the last layer of `network`, a built
    `model`.

    Raises:
        WeightsError: they do not fit the architecture.
    """
    spec = model_spec(model)
    state, head = _as_built(network, spec, state), spec.head
    state = _renamed(network, state, model=model, path=path, head=head)
    state = {name: value for name, value in state.items() if not name.startswith(head + ".")}
    try:
        result = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit {model}: tensor shapes differ; use weights of that architecture"
        ) from error
    wrong = [name for name in result.missing_keys if not _is_optional(name, head)]
    wrong += result.unexpected_keys
    if wrong:
        raise WeightsError(
            f"{path} does not fit {model}: {len(wrong)} names differ, such as '{wrong[0]}'; use "
            "weights of that architecture"
        )


def _as_built(
    network: nn.Module, spec: ModelSpec, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A state dict converted to the names and sizes of the built network."""
    # model.safetensors of a run: normalisation, then the network.
    if {"0.mean", "0.std"} <= set(state):
        state = {name[2:]: value for name, value in state.items() if name.startswith("1.")}
    if spec.architecture == "densenet121":
        state = {_OLD_DENSENET_NAME.sub(r"\1\2", name): value for name, value in state.items()}
    if spec.architecture == "vit_b_16":
        built = network.get_parameter("encoder.pos_embedding")
        stored = state.get("encoder.pos_embedding")
        if stored is not None and stored.ndim == built.ndim and stored.shape[-1] == built.shape[-1]:
            side_px = (built.shape[1] - 1) ** 0.5 * spec.line.size_step_px
            state = interpolate_embeddings(round(side_px), spec.line.size_step_px, state)
    return state


def _renamed(
    network: nn.Module, state: dict[str, torch.Tensor], *, model: str, path: Path, head: str
) -> dict[str, torch.Tensor]:
    """The state under the network's names, if the file calls every tensor otherwise but has the
    same ones in the same order; else unchanged, and loading says what does not fit."""
    built = network.state_dict()
    if built.keys() & state.keys() >= {name for name in built if not _is_optional(name, head)}:
        return state
    names, why_not = match_in_order(
        {name: value.shape for name, value in built.items()},
        {name: value.shape for name, value in state.items()},
        head=head,
    )
    if path.suffix == ".safetensors":
        names, why_not = {}, "safetensors files do not keep the order of layers; give a .pth file"
    if not names:
        lacking = [name for name in built if name not in state and not _is_optional(name, head)]
        raise WeightsError(
            f"{path} does not fit {model}: {len(lacking)} names differ, such as '{lacking[0]}', "
            f"and its tensors do not match in order either: {why_not}; use weights of that "
            "architecture"
        )
    if path != installed_file(model_spec(model).line):  # of our own file it is no news
        _say_renamed(str(path), model, tuple(names.items()))
    return {new: state[old] for old, new in names.items()}


def match_in_order(
    built: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]], *, head: str
) -> tuple[dict[str, str], str]:
    """{given name: built name} for two lists of tensors by name and shape, in the order of layers;
    ({}, reason) if there is any doubt.

    Counts and shapes must agree throughout. The last layer `head` may be missing in `given`, or
    have another number of classes. So that no two tensors of one shape are taken for each other, a
    tensor must keep the last part of its name (weight, bias, running_mean, ...), the tensors of one
    layer must go to one layer, and a name that both have must mean the same tensor.
    """
    given = {name: shape for name, shape in given.items() if not _is_counter(name)}
    built = {name: shape for name, shape in built.items() if not _is_counter(name)}
    headless = {name: shape for name, shape in built.items() if not name.startswith(head + ".")}
    wanted = headless if len(given) == len(headless) else built
    if len(given) != len(wanted):
        return {}, f"the file has {len(given)} tensors, the model {len(built)}"
    layers: dict[str, str] = {}
    for (old, found), (new, expected) in zip(given.items(), wanted.items(), strict=True):
        skipped = 1 if new.startswith(head + ".") else 0  # the number of classes
        if len(found) != len(expected) or tuple(found[skipped:]) != tuple(expected[skipped:]):
            return {}, f"'{old}' is {_by(found)} where '{new}' is {_by(expected)}"
        (old_layer, _, old_part), (new_layer, _, new_part) = (
            old.rpartition("."),
            new.rpartition("."),
        )
        if old_part != new_part or (old in built and old != new):
            return {}, f"'{old}' stands where '{new}' is expected"
        if layers.setdefault(old_layer, new_layer) != new_layer:
            return (
                {},
                f"layer '{old_layer}' would go to both '{layers[old_layer]}' and '{new_layer}'",
            )
    if len(set(layers.values())) != len(layers):
        return {}, "two of its layers would go to one"
    return dict(zip(given, wanted, strict=True)), ""


@functools.lru_cache(maxsize=256)
def _say_renamed(file: str, model: str, names: tuple[tuple[str, str], ...]) -> None:
    """Says once per process which tensors were taken for which."""
    (first, became), (last, last_became) = names[0], names[-1]
    logger.info(
        "%s calls the layers of %s otherwise: %d tensors matched by order and shape, from %s = %s "
        "to %s = %s",
        *(file, model, len(names), first, became, last, last_became),
    )


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _is_optional(name: str, head: str) -> bool:
    """Whether a file may lack this tensor: it is the last layer's, or counts batches."""
    return name.startswith(head + ".") or _is_counter(name)

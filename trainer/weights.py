"""Pretrained weights for a frozen backbone: torchvision's file, a file of the user's, or, when allowed, none.

A download goes to torch's own cache, whole or not at all, so torchvision and this program share it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from trainer.errors import WeightsError
from trainer.models import model_spec
from trainer.progress import Progress

logger = logging.getLogger(__name__)

# From torchvision's ResNet50_Weights.IMAGENET1K_V2; the name's last part starts the file's SHA-256.
URLS = {"resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"}
UNTRAINED = "untrained"
_UNTRAINED_SEED = 0
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights come from; `path` is None for an untrained one. `source` is what the report says."""

    source: str
    fingerprint: str
    path: Path | None


def find_weights(model: str, *, given: Path | None, allow_untrained: bool, timeout_s: float = 5.0) -> Weights:
    """The weights to use for a frozen model: `given`, else the cached or downloaded file, else none if allowed.

    Raises:
        WeightsError: `given` is not there, or there are no weights and an untrained backbone was not allowed.
    """
    if given is not None:
        if not given.is_file():
            raise WeightsError(f"weights file {given} is not there; check --weights")
        return Weights(given.name, file_fingerprint(given), given)
    try:
        path = cached_weights(model, timeout_s=timeout_s)
        return Weights("ImageNet-1k V2", file_fingerprint(path), path)
    except WeightsError as error:
        if not allow_untrained:
            raise WeightsError(
                f"{error}; connect once, pass --weights FILE, or accept an untrained backbone with --allow-untrained"
            ) from error
        logger.warning("%s; going on with an untrained backbone, which says little about pretrained ones", error)
        return Weights(UNTRAINED, f"seed{_UNTRAINED_SEED}", None)


def cached_weights(model: str, *, timeout_s: float) -> Path:
    """torchvision's weights file in torch's cache, downloaded when it is not there yet.

    Raises:
        WeightsError: no connection within `timeout_s` seconds, or the download broke off.
    """
    url = URLS[model]
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        _download(url, path, timeout_s=timeout_s)
    return path


def load_backbone(model: str, weights: Weights) -> nn.Module:
    """The frozen part of `model` with these weights, in evaluation mode: [N,3,H,W] to [N,feature_dim].

    An untrained one is the same every time. Raises WeightsError when the file does not fit the architecture.
    """
    spec = model_spec(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        network = spec.build(2)
    setattr(network, spec.head, nn.Identity())
    if weights.path is not None:
        _load_state(network, _read_state(weights.path), model=model, path=weights.path, head=spec.head)
    return network.eval().requires_grad_(False)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0][:120]
        raise WeightsError(
            f"cannot read the weights in {path}: {reason}; expected safetensors or a state dict"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict (names to tensors); save the model's state_dict()")
    return state


def _load_state(network: nn.Module, state: dict[str, torch.Tensor], *, model: str, path: Path, head: str) -> None:
    state = {name: value for name, value in state.items() if not name.startswith(head + ".")}
    try:
        result = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit {model}: tensor shapes differ; use weights of that architecture"
        ) from error
    wrong = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")] + result.unexpected_keys
    if wrong:
        raise WeightsError(
            f"{path} does not fit {model}: {len(wrong)} names differ, such as '{wrong[0]}'; use weights of that architecture"
        )


def _download(url: str, path: Path, *, timeout_s: float) -> None:
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
        expected = path.stem.rsplit("-", 1)[1]
        if not digest.hexdigest().startswith(expected):
            raise WeightsError(f"the download of {url} is damaged (SHA-256 does not start with {expected})")
        partial.replace(path)
    except (OSError, HTTPException) as error:
        raise WeightsError(f"the download of {url} broke off ({error})") from error
    finally:
        response.close()
        if partial is not None:
            partial.unlink(missing_ok=True)


def _open(url: str, *, timeout_s: float) -> HTTPResponse:
    """Opens in a thread of its own, because looking up a name may block for much longer than any socket time-out."""
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
        raise WeightsError(f"pretrained weights are not to be had: {url} cannot be reached ({reason})") from answer
    return answer


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of a file's SHA-256. Raises WeightsError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read the weights in {path}: {error.strerror or error}") from error
    return digest.hexdigest()[:16]

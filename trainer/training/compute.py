"""How a network computes: on which device, in which number format, and in how much memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import nn

from trainer.config import DTYPES
from trainer.errors import ConfigError

logger = logging.getLogger(__name__)
_PREDICT_BATCH = 256
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA if available.

    Raises:
        ConfigError: CUDA was requested but is not available.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            "device 'cuda' was requested, but torch finds no CUDA device; use --device cpu"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def pick_dtype(name: str, device: torch.device) -> str:
    """ "auto" is bfloat16 on a CUDA device that computes in it, float16 on an older one, float32 on
    a CPU.

    Raises:
        ConfigError: the name is unknown, or float16 was asked for on a CPU, which cannot train in
            it.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype '{name}' is unknown; choose from {', '.join(DTYPES)}")
    if name == "float16" and device.type != "cuda":
        raise ConfigError("dtype 'float16' needs a CUDA device; use float32, or bfloat16")
    if name != "auto":
        return name
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"


@contextmanager
def deterministic() -> Iterator[None]:
    """Uses deterministic algorithms inside the context; if torch has none, it warns and continues.

    Equal predictions still need the same machine, torch version and number of threads, and the same
    `micro_batch`.
    """
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def predict(
    network: nn.Module,
    inputs: torch.Tensor,
    rows: torch.Tensor,
    *,
    device: torch.device,
    dtype: str = "auto",
) -> np.ndarray:
    """Class probabilities of these rows of `inputs`: float64 [len(rows), classes]."""
    found = logits(network, inputs, rows, device=device, dtype=pick_dtype(dtype, device))
    return torch.softmax(found.double(), dim=1).cpu().numpy()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory; on a CPU torch reports it as a plain
    RuntimeError."""
    text = str(error)
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        part in text for part in _NO_MEMORY
    )


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[None]:
    kind = torch.float16 if dtype == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled=dtype != "float32")


@torch.no_grad()
def logits(
    network: nn.Module,
    inputs: torch.Tensor,
    rows: torch.Tensor,
    *,
    device: torch.device,
    dtype: str,
) -> torch.Tensor:
    place(network, inputs, device)
    network.eval()
    found: list[torch.Tensor] = []
    left, at_once = rows, min(_PREDICT_BATCH, max(1, len(rows)))
    while len(left):
        try:
            with autocast(device, dtype):
                found.append(network(take(inputs, left[:at_once], device)).float())
            left = left[at_once:]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or at_once == 1:
                raise
            at_once = math.ceil(at_once / 2)
            logger.warning("out of memory: predicting %d images at once from here on", at_once)
    return torch.cat(found)


def place(network: nn.Module, inputs: torch.Tensor, device: torch.device) -> None:
    network.to(device)
    if inputs.ndim == 4:
        network.to(memory_format=torch.channels_last)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device, without waiting for what the device is busy with; only for tensors
    on the CPU, or on the device already."""
    return tensor.to(device, non_blocking=True)


def take(inputs: torch.Tensor, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Rows of the inputs on the device; pixels with the channels last, which trains 1.6 times as
    fast on a CPU."""
    batch = sent(inputs[sent(rows, inputs.device)], device)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch

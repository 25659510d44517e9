"""Tensors with one row an image, kept in a safetensors file by the hash of each image's bytes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from comfy_nodes.labelset import write_atomically

logger = logging.getLogger(__name__)
_KEY = "sha256"


def write_rows(path: Path, digests: Sequence[str], columns: Mapping[str, torch.Tensor]) -> None:
    """Writes columns [n, ...] whole or not at all; `digests` are n hexadecimal SHA-256."""
    keys = np.stack([np.frombuffer(bytes.fromhex(digest), dtype=np.uint8) for digest in digests])
    write_atomically(path, save({**columns, _KEY: torch.from_numpy(keys)}))


def read_rows(
    path: Path, columns: Sequence[str]
) -> tuple[dict[str, int], dict[str, torch.Tensor]] | None:
    """({hash: row}, {column: tensor}), or None without a file; a damaged one is reported and
    ignored, since all of it can be computed again."""
    if not path.is_file():
        return None
    try:
        stored = load_file(path)
        keys = stored[_KEY].numpy()
        found = {name: stored[name] for name in columns}
    except (OSError, SafetensorError, KeyError) as error:
        logger.warning("%s cannot be read and is recomputed (%s)", path, error)
        return None
    return {bytes(key).hex(): row for row, key in enumerate(keys)}, found

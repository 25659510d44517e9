"""Rows that are filled in order: in memory, or in a memory-mapped file if they are too large."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import torch

from trainer.errors import DataError

logger = logging.getLogger(__name__)
_MEMORY_SHARE = 0.25  # of the machine's; more than that in one model's images goes into a file
_UNKNOWN_MEMORY_BYTES = 4 << 30


class RowStore:
    """`count` rows of one shape and type, uint8 say, appended block by block.

    If all rows take more than `limit_bytes`, they go to a temporary file in `folder` that vanishes
    with the process.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        folder: Path,
        limit_bytes: int | None = None,
    ) -> None:
        self.shape, self.dtype, self.filled = (count, *shape), np.dtype(dtype), 0
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        limit = int(memory_bytes() * _MEMORY_SHARE) if limit_bytes is None else limit_bytes
        self._file: IO[bytes] | None = None
        if size > limit:
            logger.info("%.1f GB of pixels go to a file in %s", size / 1e9, folder)
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(prefix=".pixels-", dir=folder)  # noqa: SIM115 - finish() closes it
        else:
            self._rows = np.empty(self.shape, self.dtype)

    def append(self, block: np.ndarray) -> None:
        """Adds [n, *shape]. Raises DataError if the disk is full."""
        if self._file is None:
            self._rows[self.filled : self.filled + len(block)] = block
        else:
            try:
                self._file.write(np.ascontiguousarray(block, self.dtype).tobytes())
            except OSError as error:
                with suppress(OSError):  # closing tries to write once more
                    self._file.close()
                raise DataError(
                    f"cannot write decoded pixels: {error.strerror or error}; free some space"
                ) from error
        self.filled += len(block)

    def finish(self) -> torch.Tensor:
        """All rows, [filled, *shape]; those in a file are read as they are used."""
        if self._file is None:
            return torch.from_numpy(self._rows[: self.filled])
        try:
            self._file.flush()
        except OSError as error:
            with suppress(OSError):  # closing tries to write once more
                self._file.close()
            raise DataError(
                f"cannot write decoded pixels: {error.strerror or error}; free some space"
            ) from error
        shape = (self.filled, *self.shape[1:])
        with self._file as file:  # the map outlives it
            return torch.from_numpy(np.memmap(file, self.dtype, mode="c", shape=shape))


def memory_bytes() -> int:
    """The machine's memory; 4 GiB if the system does not tell."""
    if sys.platform == "win32":
        return _windows_memory_bytes()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN_MEMORY_BYTES


def _windows_memory_bytes() -> int:
    kilobytes = ctypes.c_ulonglong()
    found = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))  # type: ignore[attr-defined]
    return kilobytes.value * 1024 if found else _UNKNOWN_MEMORY_BYTES

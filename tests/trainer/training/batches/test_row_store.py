"""Rows in memory or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.errors import DataError
from trainer.training.batches.row_store import RowStore, memory_bytes


def filled(folder: Path, *, limit_bytes: int | None) -> torch.Tensor:
    store = RowStore(5, (4, 3), np.dtype(np.uint8), folder=folder, limit_bytes=limit_bytes)
    rows = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    store.append(rows[:2])
    store.append(rows[2:])
    return store.finish()


def test_rows_past_the_limit_go_to_a_file_that_leaves_nothing_behind(tmp_path: Path) -> None:
    memory, mapped = filled(tmp_path / "a", limit_bytes=60), filled(tmp_path / "b", limit_bytes=59)
    assert torch.equal(memory, torch.arange(60, dtype=torch.uint8).view(5, 4, 3))
    assert torch.equal(mapped, memory)
    assert not (tmp_path / "a").exists()
    assert list((tmp_path / "b").iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = RowStore(1 << 20, (8,), np.dtype(np.uint8), folder=tmp_path, limit_bytes=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(
            DataError, match=r"cannot write decoded pixels: .*; free some space"
        ) as caught:
            store.append(np.zeros((1 << 20, 8), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)


def test_the_machines_memory_is_known() -> None:
    assert memory_bytes() > 1 << 28

"""Rows come back under the hash of their image; what is damaged is computed again, not trusted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from trainer.models.row_file import read_rows, write_rows

DIGESTS = ["aa" * 32, "0b" * 32]


def test_rows_come_back_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.safetensors"
    write_rows(path, DIGESTS, {"features": torch.arange(6.0).view(2, 3), "n": torch.tensor([1, 2])})
    found = read_rows(path, ("features",))
    assert found is not None
    rows, columns = found
    assert rows == {DIGESTS[0]: 0, DIGESTS[1]: 1}
    assert columns["features"][rows[DIGESTS[1]]].tolist() == [3.0, 4.0, 5.0]
    assert set(columns) == {"features"}


def test_what_is_missing_or_damaged_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.safetensors"
    assert read_rows(path, ("features",)) is None
    assert not caplog.records
    write_rows(path, DIGESTS, {"other": torch.zeros(2, 1)})
    with caplog.at_level(logging.WARNING):
        assert read_rows(path, ("features",)) is None
        path.write_bytes(path.read_bytes()[:40])
        assert read_rows(path, ("other",)) is None
    assert [str(path) in each.getMessage() for each in caplog.records] == [True, True]

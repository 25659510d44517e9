"""Labelled image files, read from folders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainer.data.dataset import load_dataset
from trainer.errors import DataError


def test_an_image_without_a_record_is_left_out(
    real: Path, tmp_path: Path, make_labelled: Callable[..., Path]
) -> None:
    pictures = {label: [Image.new("RGB", (40, 40))] for label in ("circle", "cross", "square")}
    made = make_labelled(tmp_path / "made", pictures)
    Image.new("RGB", (40, 40)).save(made / "circle" / "stray.png")
    assert len(load_dataset(real, made).synthetic) == 3


def test_a_record_without_an_image_is_an_error(
    real: Path, tmp_path: Path, make_labelled: Callable[..., Path]
) -> None:
    pictures = {label: [Image.new("RGB", (40, 40))] for label in ("circle", "cross", "square")}
    made = make_labelled(tmp_path / "made", pictures)
    next((made / "cross").glob("*.png")).unlink()
    with pytest.raises(DataError, match="which is missing"):
        load_dataset(real, made)


def test_a_line_that_was_never_finished_is_left_out_and_said(
    real: Path, tmp_path: Path, make_labelled: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    pictures = {label: [Image.new("RGB", (40, 40))] * 2 for label in ("circle", "cross", "square")}
    made = make_labelled(tmp_path / "made", pictures)
    path = made / "metadata.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert len(load_dataset(real, made).synthetic) == 5
    assert "the last line is unfinished" in caplog.text


def test_missing_and_empty_folders_are_named(real: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.train is not a folder"):
        load_dataset(tmp_path / "nowhere", None)
    (real / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"class folder .*empty has no images"):
        load_dataset(real, None)
    shutil.rmtree(real / "train")
    (real / "train").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load_dataset(real, None)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_a_class_folder_whose_name_is_not_utf8_is_named(real: Path) -> None:
    (real / "train" / "circle").rename(real / "train" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=r"class folder .*caf.* is not UTF-8; rename it"):
        load_dataset(real, None)

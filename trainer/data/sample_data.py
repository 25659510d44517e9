"""Real handwritten digits as class folders: the demo's data, and what the embedded generator may be
trained on.

The images are scikit-learn's `load_digits` (1,797 digits of 8x8 pixels; a copy of the test part of
the UCI "Optical Recognition of Handwritten Digits" set), enlarged to 64x64, dark ink on white
paper. The split is made once and does not depend on how many images are asked for: 30 per class to
train on, 30 per class to test on, and the remaining 1,197 set aside. Only the generator is trained
on those, so that a synthetic image is never a copy of a demo image.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from comfy_nodes.labelset.images.openimage import open_image
from trainer.errors import DataError

logger = logging.getLogger(__name__)

LABELS = tuple(str(digit) for digit in range(10))
MAX_PER_CLASS = 30
IMAGE_SIZE_PX = 64
_SPLIT_SEED = 20240501
_BRIGHTEST = 16.0  # load_digits counts ink from 0 to 16


@dataclass(frozen=True)
class SampleDataSummary:
    """What is on disk now: images per class in `train` and `test`, and the number set aside (0 if
    not requested)."""

    out: Path
    train_per_class: int
    test_per_class: int
    set_aside_total: int

    @property
    def train_total(self) -> int:
        return self.train_per_class * len(LABELS)

    @property
    def test_total(self) -> int:
        return self.test_per_class * len(LABELS)


@dataclass(frozen=True)
class DigitsSplit:
    """Indices into load_digits for each label, in the fixed order in which they are handed out."""

    train: dict[str, list[int]]
    test: dict[str, list[int]]
    set_aside: dict[str, list[int]]


def write_sample_data(
    out: Path, *, train_per_class: int, test_per_class: int, set_aside: Path | None = None
) -> SampleDataSummary:
    """Write `out/train/<label>/digit-0123.png` and `out/test/<label>/...`; the number is the
    load_digits index.

    Fewer images are a prefix of the 30, so the 5 of `train_per_class=5` are among the 30 of
    `train_per_class=30`. `set_aside` names a folder for all images that are in neither part,
    whatever the counts. Running again over the same files changes nothing.

    Raises:
        DataError: a count is outside 1..30, or a folder to write already contains anything else.
    """
    _check_count("train_per_class", train_per_class)
    _check_count("test_per_class", test_per_class)
    split = split_digits()
    parts = {
        out / "train": _first(split.train, train_per_class),
        out / "test": _first(split.test, test_per_class),
    }
    if set_aside is not None:
        parts[set_aside] = split.set_aside

    images = load_digits().images
    missing = [
        folder for folder, indices in parts.items() if not _holds_already(folder, indices, images)
    ]
    for folder in missing:
        _write_folder(folder, parts[folder], images)
    return SampleDataSummary(
        out=out,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        set_aside_total=0
        if set_aside is None
        else sum(len(indices) for indices in split.set_aside.values()),
    )


def split_digits() -> DigitsSplit:
    """The fixed split: 30 training and 30 test images per class, and the rest set aside."""
    targets = load_digits().target
    # NumPy guarantees RandomState's stream; default_rng's may change between versions.
    random = np.random.RandomState(_SPLIT_SEED)
    split = DigitsSplit(train={}, test={}, set_aside={})
    for digit, label in enumerate(LABELS):
        order = [int(index) for index in random.permutation(np.flatnonzero(targets == digit))]
        split.train[label] = order[:MAX_PER_CLASS]
        split.test[label] = order[MAX_PER_CLASS : 2 * MAX_PER_CLASS]
        split.set_aside[label] = order[2 * MAX_PER_CLASS :]
    return split


def render_digit(ink: np.ndarray) -> Image.Image:
    """An 8x8 array of ink (0..16) as a 64x64 RGB image, dark on white, enlarged bicubically."""
    paper = Image.fromarray((255.0 * (1.0 - ink / _BRIGHTEST)).astype(np.float32))
    enlarged = np.asarray(paper.resize((IMAGE_SIZE_PX, IMAGE_SIZE_PX), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(np.round(enlarged), 0, 255).astype(np.uint8)).convert("RGB")


def _check_count(name: str, count: int) -> None:
    if not 1 <= count <= MAX_PER_CLASS:
        raise DataError(
            f"{name} is {count}, but the sample data has 1 to {MAX_PER_CLASS} images per class; "
            f"ask for a number in that range"
        )


def _first(indices: dict[str, list[int]], count: int) -> dict[str, list[int]]:
    return {label: order[:count] for label, order in indices.items()}


def _file_name(index: int) -> str:
    return f"digit-{index:04d}.png"


def _holds_already(folder: Path, indices: dict[str, list[int]], images: np.ndarray) -> bool:
    """True if `folder` has exactly these images, False if there is nothing yet; anything else is an
    error."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(
            f"{folder} is a file, but a folder must be written there; choose another folder with "
            "--out"
        )
    expected = {
        f"{label}/{_file_name(index)}": index for label, order in indices.items() for index in order
    }
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if not found:
        return False
    if found != set(expected):
        raise DataError(
            f"{folder} holds {len(found)} files and they are not the {len(expected)} that would be "
            "written (perhaps it was written with other counts); nothing was changed: choose "
            "another folder with --out"
        )
    for name, index in expected.items():
        if not _same_image(folder / name, images[index]):
            raise DataError(
                f"{folder / name} differs from the image that would be written; nothing was "
                "changed: choose another folder with --out"
            )
    return True


def _same_image(path: Path, ink: np.ndarray) -> bool:
    try:
        with open_image(path) as image:
            return np.array_equal(np.asarray(image.convert("RGB")), np.asarray(render_digit(ink)))
    except (OSError, ValueError):
        return False


def _write_folder(folder: Path, indices: dict[str, list[int]], images: np.ndarray) -> None:
    """Write next to the destination and rename, so that an interrupted run leaves no half-filled
    folder behind."""
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        for label, order in indices.items():
            (partial / label).mkdir(parents=True, exist_ok=True)
            for index in order:
                render_digit(images[index]).save(partial / label / _file_name(index))
        if folder.exists():
            _remove_empty_folders(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("wrote %d images to %s", sum(len(order) for order in indices.values()), folder)


def _remove_empty_folders(folder: Path) -> None:
    """Make way for the rename (Windows cannot rename over a folder); rmdir fails on a folder that
    is not empty."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        path.rmdir()
    folder.rmdir()

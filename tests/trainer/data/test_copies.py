"""Rotated and mirrored copies: exact, all different, and in rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.copies import COPY, TURNS, copies_of, turned
from trainer.data.samples import Sample

SAMPLES = [Sample(Path(f"{name}.png"), f"{name}.png", "a", name * 8) for name in ("x", "y", "z")]


def test_turns_are_the_seven_symmetries_of_a_square() -> None:
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    made = {turn: turned(pixels, turn) for turn in TURNS}
    assert len({image.tobytes() for image in made.values()} | {pixels.tobytes()}) == 8
    pillow = {
        "rotate90": Image.Transpose.ROTATE_90,
        "rotate180": Image.Transpose.ROTATE_180,
        "mirror": Image.Transpose.FLIP_LEFT_RIGHT,
        "rotate270": Image.Transpose.ROTATE_270,
        "flip": Image.Transpose.FLIP_TOP_BOTTOM,
        "transpose": Image.Transpose.TRANSPOSE,
        "transverse": Image.Transpose.TRANSVERSE,
    }
    for turn, image in made.items():
        assert np.array_equal(image, np.asarray(Image.fromarray(pixels).transpose(pillow[turn]))), (
            turn
        )


def test_no_turn_leaves_the_pixels_alone() -> None:
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert turned(pixels, "") is pixels


@pytest.mark.parametrize("count", [0, 1, 3, 4, 21])
def test_each_image_is_copied_once_before_any_twice(count: int) -> None:
    copies = copies_of(SAMPLES, count)
    assert copies == copies_of(SAMPLES, 21)[:count]
    times = [sum(copy.path == sample.path for copy in copies) for sample in SAMPLES]
    assert sum(times) == count
    assert max(times) - min(times) <= 1
    assert len({(copy.path, copy.turn) for copy in copies}) == count


def test_a_copy_has_its_own_name_and_hash_and_the_label_of_its_original() -> None:
    (copy,) = copies_of(SAMPLES[:1], 1)
    assert (copy.file, copy.label, copy.source, copy.turn) == (
        "x.png#rotate90",
        "a",
        COPY,
        TURNS[0],
    )
    assert copy.sha256 != SAMPLES[0].sha256

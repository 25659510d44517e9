"""The measures of the checkpoint: ink whatever the colours, and distances that find a copy."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")

from tools.tiny_digits.fidelity import digit_image, ink_cells, variety
from tools.tiny_digits.images import Digit


def digit(label: int, seed: int) -> Digit:
    ink = np.zeros((64, 64), np.float32)
    rows = np.random.default_rng(seed).integers(12, 52, 200)
    columns = np.random.default_rng(seed + 1).integers(12, 52, 200)
    ink[rows, columns] = 1.0
    return Digit(label, ink, Path(f"digit-{seed:04d}.png"), str(seed))


DIGITS = [digit(label, 100 * label + number) for label in range(10) for number in range(2)]
IMAGES = np.stack([digit_image(each) for each in DIGITS])


def test_ink_is_the_same_for_dark_on_light_and_light_on_dark() -> None:
    cells = ink_cells(IMAGES)
    assert cells.shape == (20, 64)
    assert 0.0 <= cells.min() < cells.max() <= 16.0
    assert np.allclose(cells, ink_cells(255 - IMAGES), atol=0.1)


def test_a_copy_has_no_distance_even_if_shifted_by_two_pixels() -> None:
    labels = [each.label for each in DIGITS]
    shifted = np.roll(IMAGES, (2, -2), axis=(1, 2))
    for images in (IMAGES, shifted):
        assert variety(DIGITS, labels, images)["nearest_learnt_median"] < 0.1
    others = np.stack([digit_image(digit(each.label, 5000 + n)) for n, each in enumerate(DIGITS)])
    assert variety(DIGITS, labels, others)["nearest_learnt_median"] > 1.0


def test_the_spread_within_a_class_is_zero_for_equal_images() -> None:
    labels = [each.label for each in DIGITS]
    equal = IMAGES[[2 * label for label in labels]]
    assert variety(DIGITS, labels, equal)["spread"] == 0.0
    assert variety(DIGITS, labels, IMAGES)["spread"] > 0.0

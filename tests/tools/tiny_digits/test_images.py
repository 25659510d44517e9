"""Training images: what is read, what is refused, and what a rendering looks like."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.tiny_digits.grammar import Description
from tools.tiny_digits.images import GeneratorDataError, pixel_hash, read_digits, render

INK = np.zeros((64, 64), np.float32)
INK[16:48, 28:36] = 1.0


def write(path: Path, size: tuple[int, int] = (64, 64), colour: str = "white") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_digits_are_read_with_label_ink_and_index(tmp_path: Path) -> None:
    write(tmp_path / "7" / "digit-0123.png", colour="black")
    write(tmp_path / "3" / "other.png")
    three, seven = read_digits(tmp_path)
    assert (three.label, three.index, float(three.ink.max())) == (3, -1, 0.0)
    assert (seven.label, seven.index, float(seven.ink.min())) == (7, 123, 1.0)


def test_an_empty_folder_and_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneratorDataError, match="has no images; expected class folders 0 to 9"):
        read_digits(tmp_path)
    write(tmp_path / "7" / "small.png", size=(32, 16))
    with pytest.raises(GeneratorDataError, match=r"small\.png is 32x16 pixels; expected 64x64"):
        read_digits(tmp_path)


def test_the_hash_is_of_the_pixels_and_not_of_the_file(tmp_path: Path) -> None:
    first = write(tmp_path / "a.png")
    second = tmp_path / "b.png"
    Image.open(first).convert("L").save(second, compress_level=0)
    assert first.read_bytes() != second.read_bytes()
    assert pixel_hash(first) == pixel_hash(second)
    assert pixel_hash(write(tmp_path / "c.png", size=(64, 63))) != pixel_hash(first)


def test_a_plain_rendering_is_dark_ink_on_pure_white() -> None:
    image = render(INK, Description(1), random.Random(0))
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert (image[0] == 255).all()
    assert image[30:34, 31:33].max() < 60


def test_a_blackboard_is_dark_with_light_strokes() -> None:
    description = Description(1, "a blackboard", "white chalk")
    image = render(INK, description, random.Random(0))
    assert image[0].max() < 80
    assert image[30:34, 31:33].min() > 180


def test_bold_strokes_have_more_ink_than_thin_ones() -> None:
    def ink(weight: str) -> float:
        image = render(INK, Description(1, weight=weight), random.Random(0))
        return float((255.0 - image).sum())

    assert ink("bold strokes") > ink("normal strokes") > ink("thin strokes")

"""Images of any mode become the RGB that a viewer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.images import iter_pixels, read_image, square
from trainer.errors import DataError


def colour_of(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(value) for value in np.asarray(image)[0, 0])


def sixteen_bit(value: int) -> Image.Image:
    return Image.fromarray(np.full((40, 40), value, dtype=np.uint16))


MODES = [
    ("grey.png", Image.new("L", (40, 40), 130), (130, 130, 130)),
    ("bits.png", Image.new("1", (40, 40), 1), (255, 255, 255)),
    ("cmyk.tif", Image.new("CMYK", (40, 40), (0, 255, 255, 0)), (255, 0, 0)),
    ("deep.png", sixteen_bit(32896), (128, 128, 128)),
    ("deep-white.tif", sixteen_bit(65535), (255, 255, 255)),
    ("deep-dark.png", sixteen_bit(20 * 257), (20, 20, 20)),
    ("deep-black.png", sixteen_bit(0), (0, 0, 0)),
    ("float.tif", Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), (128, 128, 128)),
    ("clear.png", Image.new("RGBA", (40, 40), (200, 0, 0, 0)), (255, 255, 255)),
    ("half.png", Image.new("LA", (40, 40), (0, 128)), (127, 127, 127)),
    ("plain.webp", Image.new("RGBA", (40, 40), (0, 0, 0, 255)), (0, 0, 0)),
]


@pytest.mark.parametrize(("name", "image", "expected"), MODES, ids=[name for name, _, _ in MODES])
def test_every_mode_reads_as_its_visible_colour(
    tmp_path: Path, name: str, image: Image.Image, expected: tuple[int, ...]
) -> None:
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.allclose(colour_of(read_image(tmp_path / name)), expected, atol=1)


def test_a_palette_keeps_its_colours_and_its_transparent_entry_turns_white(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "see-through.png", transparency=1)
    assert colour_of(read_image(tmp_path / "opaque.png")) == (10, 20, 30)
    assert colour_of(read_image(tmp_path / "see-through.png")) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 30), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    image.save(tmp_path / "upright.jpg", exif=exif)
    assert read_image(tmp_path / "upright.jpg").size == (30, 60)


def test_square_takes_the_centre_and_does_not_distort() -> None:
    wide = Image.new("RGB", (120, 40), "red")
    wide.paste((0, 0, 255), (40, 0, 80, 40))
    assert (square(wide, 32)[2:-2, 2:-2] == (0, 0, 255)).all()  # the kernel touches the cut edge


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_image_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.png"
    Image.effect_noise((64, 64), 50).save(path)
    data = path.read_bytes()
    path.write_bytes(
        {"truncated": data[: len(data) // 2], "empty": b"", "text": b"not an image"}[damage]
    )
    with pytest.raises(DataError, match=r"bad\.png is not a whole image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_float_pixels_beyond_one_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 300.0, dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match="expected 0 to 1"):
        read_image(tmp_path / "x.tif")


def test_pixels_come_in_file_order_at_every_size(tmp_path: Path) -> None:
    paths = []
    for value in range(100):
        paths.append(tmp_path / f"{value}.png")
        Image.new("L", (50, 50), value).save(paths[-1])
    chunks = list(iter_pixels(paths, [32, 48]))
    assert [chunk[32].shape for chunk in chunks] == [(64, 32, 32, 3), (36, 32, 32, 3)]
    assert np.concatenate([chunk[48] for chunk in chunks])[:, 0, 0, 0].tolist() == list(range(100))

"""Image files of every mode become the 8-bit RGB that a viewer shows, or are refused."""

import io
import struct
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset.images.to_rgb import decode_rgb, to_rgb


def colour(image):
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def whole_numbers(*values, dtype):
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_16_bit_values_are_scaled_and_not_clipped(dtype):
    image = to_rgb(whole_numbers(0, 257, 128 * 257, 65535, dtype=dtype))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
@pytest.mark.parametrize("brightest", [1, 255, 4095])
def test_8_or_12_bit_values_in_a_wider_file_are_refused_and_not_turned_black(dtype, brightest):
    image = whole_numbers(0, brightest, dtype=dtype)
    with pytest.raises(LabelsetError, match=f"brightest pixel is {brightest} of 65535"):
        to_rgb(image)
    with pytest.raises(LabelsetError, match=r"^x\.tif: the brightest pixel"):
        decode_rgb(encoded(image, "TIFF"), name="x.tif")


def test_a_picture_that_is_black_all_over_is_one():
    assert colour(to_rgb(whole_numbers(0, 0, dtype="uint16"))) == (0, 0, 0)


def sixteen_bit_colours(red, green, blue):
    """A PNG of 1x1 pixel with 16 bits a channel, which Pillow reads but does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", compress(b"\0" + struct.pack(">HHH", red, green, blue)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_colours_of_16_bits_are_held_to_the_same_rule():
    assert colour(decode_rgb(sixteen_bit_colours(65535, 256, 0), name="x.png")) == (255, 1, 0)
    assert colour(decode_rgb(sixteen_bit_colours(0, 0, 0), name="x.png")) == (0, 0, 0)
    with pytest.raises(
        LabelsetError, match=r"x\.png: the brightest pixel is 3840 to 4095 of 65535"
    ):
        decode_rgb(sixteen_bit_colours(4095, 17, 0), name="x.png")


def test_float_values_from_0_to_1_fill_the_whole_range():
    image = to_rgb(whole_numbers(0.0, 0.5, 1.0, dtype="float32"))
    assert np.asarray(image)[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (-1, "int32", "from -1 to 0; expected 0 to 65535"),
        (65536, "int32", "from 0 to 65536; expected 0 to 65535"),
        (-0.01, "float32", "from -0.01 to 0; expected 0 to 1"),
        (255.0, "float32", "from 0 to 255; expected 0 to 1"),
        (float("nan"), "float32", "expected 0 to 1"),
        (float("inf"), "float32", "from 0 to inf; expected 0 to 1"),
    ],
)
def test_values_without_a_sure_8_bit_reading_are_refused(value, dtype, message):
    with pytest.raises(LabelsetError, match=message):
        to_rgb(whole_numbers(0, value, dtype=dtype))


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (100, 0), (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
    ],
)
def test_transparency_goes_onto_white_and_colours_stay(mode, pixel, expected):
    assert colour(to_rgb(Image.new(mode, (2, 2), pixel))) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (10, 20, 30)),
        ({"transparency": 0}, (10, 20, 30)),
        ({"transparency": 1}, (255, 255, 255)),
        ({"transparency": b"\xff\x00"}, (255, 255, 255)),
    ],
)
def test_a_palette_keeps_its_colours_and_its_transparent_entry_becomes_white(options, expected):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    assert colour(decode_rgb(encoded(image, **options), name="x.png")) == expected


def test_a_colour_that_a_png_calls_transparent_becomes_white():
    data = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert colour(decode_rgb(data, name="x.png")) == (255, 255, 255)


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (60, 30)), "JPEG", exif=exif)
    assert decode_rgb(data, name="x.jpg").size == (30, 60)


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), each) for each in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour(decode_rgb(data, name="x.gif")) == (255, 0, 0)


def test_a_large_jpeg_may_come_smaller_but_not_below_the_wanted_side():
    data = encoded(Image.new("RGB", (1600, 1200), "red"), "JPEG")
    assert min(decode_rgb(data, name="x.jpg", at_least_px=100).size) in range(100, 1200)
    assert decode_rgb(data, name="x.jpg").size == (1600, 1200)


@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_a_damaged_file_is_named(damage):
    whole = encoded(Image.effect_noise((64, 64), 50))
    data = {"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage]
    with pytest.raises(LabelsetError, match=r"^bat/x\.png is not a whole image \("):
        decode_rgb(data, name="bat/x.png")


def test_a_refused_value_is_reported_with_the_files_name():
    data = encoded(whole_numbers(300.0, dtype="float32"), "TIFF")
    with pytest.raises(LabelsetError, match=r"^bat/x\.tif: pixels run from 300 to 300"):
        decode_rgb(data, name="bat/x.tif")

"""Our PNG writer is lossless for every image and size, with any number of threads."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfy_nodes.labelset.images.png import png_bytes

RANDOM = np.random.default_rng(0)
PICTURES = {
    "noise": RANDOM.integers(0, 256, (200, 150, 3)),
    "black": np.zeros((130, 70, 3)),
    "white": np.full((130, 70, 3), 255),
    "slope": np.add.outer(np.arange(256), np.arange(300))[..., None] % 256 + np.zeros(3),
    "stripes": np.tile([0, 255], 150)[:, None, None] + np.zeros((1, 200, 3)),
    "one pixel": np.full((1, 1, 3), 7),
    "one row": RANDOM.integers(0, 256, (1, 300, 3)),
    "one column": RANDOM.integers(0, 256, (300, 1, 3)),
}


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("name", PICTURES)
def test_the_pixels_come_back(name, threads):
    pixels = PICTURES[name].astype(np.uint8)
    for level in (1, 5, 9):
        assert np.array_equal(
            decoded(png_bytes(pixels, [], compress_level=level, threads=threads)), pixels
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 140), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_any_size_comes_back(height, width, threads, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(decoded(png_bytes(pixels, [], compress_level=1, threads=threads)), pixels)


def test_every_chunk_has_a_true_length_and_checksum_and_the_stream_is_whole():
    pixels = PICTURES["noise"].astype(np.uint8)
    data = png_bytes(pixels, [(b"tEXt", b"key\0value")], compress_level=4, threads=3)
    place, kinds = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length)[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        if kind == b"IDAT":
            assert len(zlib.decompress(body)) == 200 * (1 + 3 * 150)  # checks adler32 as well
        place += 12 + length
    assert kinds == [b"IHDR", b"tEXt", b"IDAT", b"IEND"]


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_no_larger_than_pillows_but_for_a_few_hundred_bytes(name):
    pixels = PICTURES[name].astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4, compress_type=zlib.Z_RLE)
    assert (
        len(png_bytes(pixels, [], compress_level=4, threads=2))
        <= 1.01 * len(buffer.getvalue()) + 400
    )

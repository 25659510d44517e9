"""From image files to the squares that a model sees; labelset.to_rgb converts to 8-bit RGB."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from comfy_nodes.labelset import LabelsetError, read_regular
from comfy_nodes.labelset.images.to_rgb import decode_rgb
from trainer.data.shards import ImageFile, Member, read_member
from trainer.errors import DataError

_CHUNK = 64


def read_bytes(file: ImageFile) -> bytes:
    """The bytes of an image file, wherever it lies.

    Raises:
        OSError: it cannot be read.
    """
    return read_member(file) if isinstance(file, Member) else read_regular(file)


def read_image(path: ImageFile, *, at_least_px: int | None = None) -> Image.Image:
    """The image as upright RGB. With `at_least_px` the shorter side may be reduced to no less than
    that.

    Raises:
        DataError: the file is missing, not an image, truncated, or of a kind without a definite
            8-bit reading.
    """
    try:
        return decode_rgb(read_bytes(path), name=str(path), at_least_px=at_least_px)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except LabelsetError as error:
        raise DataError(str(error)) from error


def read_thumbnail(path: ImageFile, size_px: int) -> np.ndarray:
    """The image squeezed to a square, in grey: uint8 [size_px, size_px]. A large JPEG is decoded at
    a fraction of its size.

    Raises:
        DataError: as `read_image`.
    """
    image = read_image(path, at_least_px=4 * size_px)
    smooth = Image.Resampling.BOX if min(image.size) >= size_px else Image.Resampling.BILINEAR
    return np.asarray(image.resize((size_px, size_px), smooth).convert("L"))


def square(image: Image.Image, size_px: int) -> np.ndarray:
    """The image's largest centred square, resized: uint8 [size_px, size_px, 3]."""
    if image.size == (size_px, size_px):
        return np.asarray(image)
    return np.asarray(ImageOps.fit(image, (size_px, size_px), method=Image.Resampling.BICUBIC))


def iter_pixels(
    paths: Sequence[ImageFile], sizes_px: Iterable[int], *, workers: int | None = None
) -> Iterator[dict[int, np.ndarray]]:
    """Decodes each file once, in order, a chunk at a time: {size: uint8 [n, size, size, 3]} for up
    to 64 files.

    Raises:
        DataError: as `read_image`.
    """
    sizes = sorted(set(sizes_px))

    def decode(path: ImageFile) -> list[np.ndarray]:
        image = read_image(path)
        return [square(image, size) for size in sizes]

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        ahead = [pool.submit(decode, path) for path in paths[:_CHUNK]]
        for start in range(_CHUNK, len(paths) + _CHUNK, _CHUNK):
            decoded = [each.result() for each in ahead]
            # The next chunk is decoded while the caller is busy with this one.
            ahead = [pool.submit(decode, path) for path in paths[start : start + _CHUNK]]
            yield {
                size: np.stack([row[column] for row in decoded])
                for column, size in enumerate(sizes)
            }

"""Image files of any mode to 8-bit RGB, and to the square size that a model sees.

16-bit grey is scaled to 8 bits, not clipped; transparency goes onto white; EXIF orientation is applied; of an
animation the first frame counts.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainer.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_CHUNK = 64
_WIDEST_16_BIT = 65535


def read_image(path: Path, *, at_least_px: int | None = None) -> Image.Image:
    """The image as mode RGB, upright; where `at_least_px` will do for the shorter side, perhaps no larger than needed.

    Raises:
        DataError: the file is not there, not an image, truncated, or of a kind that has no sure 8-bit reading.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            if at_least_px is not None:
                image.draft("RGB", (at_least_px, at_least_px))  # JPEG alone: skips high frequencies, not pixels
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    # Pillow's decoders raise nearly anything on damaged bytes (SyntaxError, struct.error, IndexError, ...).
    except Exception as error:
        raise DataError(f"{path} is not a whole image ({error}); replace or remove the file") from error


def read_thumbnail(path: Path, size_px: int) -> np.ndarray:
    """The image squeezed to a square, in grey: uint8 [size_px, size_px]. A large JPEG is decoded at a fraction of its size.

    Raises:
        DataError: as `read_image`.
    """
    image = read_image(path, at_least_px=4 * size_px)
    smooth = Image.Resampling.BOX if min(image.size) >= size_px else Image.Resampling.BILINEAR
    return np.asarray(image.resize((size_px, size_px), smooth).convert("L"))


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB on white.

    Raises:
        DataError: floating point pixels outside 0..1, or whole numbers below 0.
    """
    if image.mode.startswith("I"):
        return _from_numbers(np.asarray(image).astype(np.float64), full_scale=_WIDEST_16_BIT)
    if image.mode == "F":
        return _from_numbers(np.asarray(image).astype(np.float64), full_scale=1.0)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_numbers(values: np.ndarray, *, full_scale: float) -> Image.Image:
    if values.size and (values.min() < 0 or values.max() > full_scale or not np.isfinite(values).all()):
        raise DataError(
            f"pixels run from {values.min():g} to {values.max():g}; expected 0 to {full_scale:g}: "
            f"save the image with 8 bits a channel"
        )
    return Image.fromarray(np.round(values * (255.0 / full_scale)).astype(np.uint8)).convert("RGB")


def square(image: Image.Image, size_px: int) -> np.ndarray:
    """The image's largest centred square, resized: uint8 [size_px, size_px, 3]."""
    if image.size == (size_px, size_px):
        return np.asarray(image)
    return np.asarray(ImageOps.fit(image, (size_px, size_px), method=Image.Resampling.BICUBIC))


def iter_pixels(
    paths: Sequence[Path], sizes_px: Iterable[int], *, workers: int | None = None
) -> Iterator[dict[int, np.ndarray]]:
    """Decodes each file once, in order, a chunk at a time: {size: uint8 [n, size, size, 3]} for up to 64 files.

    Raises:
        DataError: as `read_image`.
    """
    sizes = sorted(set(sizes_px))

    def decode(path: Path) -> list[np.ndarray]:
        image = read_image(path)
        return [square(image, size) for size in sizes]

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        ahead = [pool.submit(decode, path) for path in paths[:_CHUNK]]
        for start in range(_CHUNK, len(paths) + _CHUNK, _CHUNK):
            decoded = [each.result() for each in ahead]
            # The next chunk is decoded while the caller is busy with this one.
            ahead = [pool.submit(decode, path) for path in paths[start : start + _CHUNK]]
            yield {size: np.stack([row[column] for row in decoded]) for column, size in enumerate(sizes)}

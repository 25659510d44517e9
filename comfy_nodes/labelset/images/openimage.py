"""The one way in which image files from outside are opened: formats by name, pixels bounded first.

Pillow would otherwise guess among dozens of formats, and for PostScript, whatever the file is
called, start the program Ghostscript on it.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import IO

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
OWN_FORMATS = ("PNG", "JPEG", "WEBP")  # what the saver writes
MOST_PIXELS = 100_000_000


def open_image(source: Path | IO[bytes], *, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The image, opened but not decoded yet; to be closed by the caller.

    Raises:
        OSError: not an image of one of these formats.
        ValueError: more than MOST_PIXELS pixels, or whatever else Pillow raises on damaged bytes.
    """
    if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
        raise OSError(f"{source} is not a regular file")  # a pipe would wait for ever
    image = Image.open(source, formats=formats)
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{width} x {height} pixels are more than the limit of {MOST_PIXELS}")
    return image

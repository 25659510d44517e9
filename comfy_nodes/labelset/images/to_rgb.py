"""Image files of any mode to 8-bit RGB, the same for img2img and for the classifier.

16-bit grey is scaled to 8 bits, not clipped; values that use so little of a file's range that the
image would turn nearly black, such as 12-bit data in 16 bits, are refused. Transparency becomes
white; EXIF orientation is applied; of an animation the first frame is taken. Pillow and NumPy only.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from ...errors import LabelsetError
from .openimage import open_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_WIDEST_16_BIT = 65535
# Largest value that is taken for data of fewer bits (12) rather than for a dark picture. Scaled to
# 8 bits, such a picture would have at most 16 different levels.
_WIDEST_12_BIT = 4095
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


def decode_rgb(data: bytes, *, name: str, at_least_px: int | None = None) -> Image.Image:
    """The bytes of an image file as an upright image in mode RGB. Errors call the file `name`.

    With `at_least_px`, a large JPEG may be decoded at a fraction of its size, as long as its
    shorter side keeps that many pixels.

    Raises:
        LabelsetError: not a complete image, or pixel values without a definite 8-bit meaning.
    """
    try:
        with open_image(io.BytesIO(data)) as image:
            if at_least_px is not None:  # has an effect on JPEG only
                image.draft("RGB", (at_least_px, at_least_px))
            has_16_bits = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            image.load()
            if has_16_bits and image.mode in ("RGB", "RGBA"):
                _refuse_nearly_black(image)
            return to_rgb(ImageOps.exif_transpose(image))
    except LabelsetError as error:
        raise LabelsetError(f"{name}: {error}") from error
    # On damaged bytes Pillow's decoders raise nearly anything (SyntaxError, struct.error, ...).
    except Exception as error:
        raise LabelsetError(
            f"{name} is not a whole image ({error}); replace or remove the file"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB on white.

    Raises:
        LabelsetError: floating-point pixels outside 0..1, or integer pixels outside 0..65535 or all
            within 0..4095.
    """
    if image.mode.startswith("I"):
        return _from_numbers(np.asarray(image).astype(np.float64), full_scale=_WIDEST_16_BIT)
    if image.mode == "F":
        return _from_numbers(np.asarray(image).astype(np.float64), full_scale=1.0)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _refuse_nearly_black(image: Image.Image) -> None:
    """For colours of 16 bits, of which Pillow hands on the upper 8."""
    extrema = image.convert("RGB").getextrema()
    brightest = max(int(high) for _, high in extrema)  # type: ignore[misc]
    if 0 < brightest <= _WIDEST_12_BIT >> 8:
        raise _too_dark(f"{brightest << 8} to {(brightest << 8) + 255}")


def _too_dark(brightest: str) -> LabelsetError:
    return LabelsetError(
        f"the brightest pixel is {brightest} of {_WIDEST_16_BIT}: values of 8 or 12 bits in a file "
        "with more, or a nearly black picture; scale the pixels to the whole range, or save the "
        "image with 8 bits per channel"
    )


def _from_numbers(values: np.ndarray, *, full_scale: float) -> Image.Image:
    if values.size and (
        values.min() < 0 or values.max() > full_scale or not np.isfinite(values).all()
    ):
        raise LabelsetError(
            f"pixels run from {values.min():g} to {values.max():g}; expected 0 to {full_scale:g}: "
            "save the image with 8 bits per channel"
        )
    if full_scale == _WIDEST_16_BIT and values.size and 0 < values.max() <= _WIDEST_12_BIT:
        raise _too_dark(f"{values.max():g}")
    return Image.fromarray(np.round(values * (255.0 / full_scale)).astype(np.uint8)).convert("RGB")

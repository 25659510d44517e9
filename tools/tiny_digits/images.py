"""Training images: read class folders, refuse the demo's images, and render variations."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from comfy_nodes.errors import SynthGridError

from .grammar import BOARDS, CHALKS, INKS, PAPERS, Description

IMAGE_SIZE_PX = 64
_MARGIN_PX = 6
_BOLDER_PX = 1


class GeneratorDataError(SynthGridError):
    """The training images are missing, of an unknown class, or also among the images to exclude."""


@dataclass(frozen=True)
class Digit:
    """One real image: class, ink (float32 [64,64], from 0 paper to 1 ink), file and pixel hash."""

    label: int
    ink: np.ndarray
    path: Path
    sha256: str

    @property
    def index(self) -> int:
        """The load_digits index in the file name (`digit-0123.png`), or -1 if it has none."""
        match = re.fullmatch(r"digit-(\d+)", self.path.stem)
        return int(match.group(1)) if match else -1


def read_digits(folder: Path) -> list[Digit]:
    """All PNG images in `folder/<0..9>/`, sorted by path.

    Raises:
        GeneratorDataError: there are none, a folder is not a digit, or an image cannot be used.
    """
    paths = sorted(folder.glob("*/*.png"))
    if not paths:
        raise GeneratorDataError(
            f"{folder} has no images; expected class folders 0 to 9 with PNG files in them"
        )
    unknown = sorted({path.parent.name for path in paths} - {str(digit) for digit in range(10)})
    if unknown:
        raise GeneratorDataError(
            f"{folder} has a class folder {unknown[0]!r}; expected only the digits 0 to 9"
        )
    return [_read_digit(path) for path in paths]


def refuse_overlap(digits: list[Digit], exclude: Path) -> int:
    """Check that no image of `digits` has the same pixels as a PNG under `exclude`.

    Returns:
        How many images were compared with.

    Raises:
        GeneratorDataError: an image is in both, or `exclude` has no PNG images.
    """
    excluded = {pixel_hash(path): path for path in sorted(exclude.rglob("*.png"))}
    if not excluded:
        raise GeneratorDataError(
            f"--exclude {exclude} has no PNG images; expected the demo's train and test folders"
        )
    for digit in digits:
        if digit.sha256 in excluded:
            raise GeneratorDataError(
                f"training image {digit.path} has the same pixels as {excluded[digit.sha256]}, "
                "which the generator must not see; remove it from --images"
            )
    return len(excluded)


def pixel_hash(path: Path) -> str:
    """SHA-256 of size and RGB pixels, so that another PNG encoding of the same image is found."""
    return _hash(_read_rgb(path))


def render(ink: np.ndarray, description: Description, rng: random.Random) -> np.ndarray:
    """Ink ([64,64], 0..1) as an image of `description`, uint8 [64,64,3], with small variations."""
    mask = _weigh(_move(ink, description.tilt, rng), description.weight, rng)
    paper = _colour({**PAPERS, **BOARDS}[description.context], rng)
    stroke = _colour({**INKS, **CHALKS}[description.stroke], rng)
    if description.is_plain:
        # As in the real images: pure white paper and neutral ink.
        paper, stroke = np.full(3, 255.0), np.full(3, rng.uniform(0, 12))
    image = paper + mask[..., None] * (stroke - paper)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _move(ink: np.ndarray, tilt: str, rng: random.Random) -> np.ndarray:
    """Rotate, scale, slant and shift about the centre, slightly, except for a named tilt."""
    degrees = {"upright": 0.0, "tilted left": 18.0, "tilted right": -18.0}[tilt]
    degrees += rng.gauss(0.0, 2.5)
    angle, scale, slant = np.deg2rad(degrees), rng.uniform(0.94, 1.04), rng.gauss(0.0, 0.05)
    if tilt != "upright":
        scale *= 0.9  # keeps the corners of a tilted digit in the image
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.array([[1.0, slant], [0.0, 1.0]]) @ turn / scale  # PIL wants output -> input
    centre = (IMAGE_SIZE_PX - 1) / 2
    shift = np.array([rng.gauss(0.0, 1.2), rng.gauss(0.0, 0.8)])
    offset = np.array([centre, centre]) + shift - inverse @ np.array([centre, centre]) + _MARGIN_PX
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    # Real strokes run up to the border; fading them out beyond it avoids a hard edge after a shift.
    wider = Image.fromarray(np.pad(ink, _MARGIN_PX, mode="linear_ramp"))
    moved = wider.transform(
        ink.shape[::-1], Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)


def _weigh(mask: np.ndarray, weight: str, rng: random.Random) -> np.ndarray:
    """A power moves the soft edge of strokes without breaking them; bold adds a pixel as well."""
    if weight == "bold strokes":
        size = (2 * _BOLDER_PX + 1,) * 2
        mask = sliding_window_view(np.pad(mask, _BOLDER_PX, mode="edge"), size).max(axis=(2, 3))
    power = {"normal strokes": 1.0, "bold strokes": 0.7, "thin strokes": 2.1}[weight]
    return np.clip(mask, 0.0, 1.0) ** (power * float(np.exp(rng.gauss(0.0, 0.08))))


def _colour(colour: tuple[int, int, int], rng: random.Random) -> np.ndarray:
    brighter = rng.gauss(0.0, 5.0)
    varied = [channel + brighter + rng.gauss(0.0, 2.0) for channel in colour]
    return np.clip(np.array(varied), 0, 255)


def _read_digit(path: Path) -> Digit:
    rgb = _read_rgb(path)
    if rgb.shape[:2] != (IMAGE_SIZE_PX, IMAGE_SIZE_PX):
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise GeneratorDataError(
            f"{path} is {size} pixels; expected {IMAGE_SIZE_PX}x{IMAGE_SIZE_PX}"
        )
    ink = (1.0 - rgb.mean(axis=2) / 255.0).astype(np.float32)
    return Digit(label=int(path.parent.name), ink=ink, path=path, sha256=_hash(rgb))


def _read_rgb(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise GeneratorDataError(f"{path} cannot be read as an image: {error}") from error


def _hash(rgb: np.ndarray) -> str:
    return hashlib.sha256(f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()

"""The contact sheet that a grid stores with its runs, so that a report needs no data folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from PIL import Image, ImageOps

from trainer.data.dataset import Dataset
from trainer.data.images import read_image
from trainer.data.samples import Sample

TILE_PX = 64
_TILES_FEW_CLASSES, _TILES_MANY_CLASSES = 5, 3
_MANY_CLASSES = 20
_BORDER = (223, 228, 234)  # otherwise images with a white background would merge


@dataclass(frozen=True)
class SheetLayout:
    """The layout of samples.png: row i is `classes[i]`, with `real` tiles from the left, then
    `synthetic` ones."""

    classes: tuple[str, ...]
    tile_px: int
    real: int
    synthetic: int

    def to_dict(self) -> dict[str, object]:
        """As it is stored in grid.json."""
        return asdict(self)


def contact_sheet(dataset: Dataset) -> tuple[bytes, SheetLayout]:
    """The first real and synthetic images of each class, side by side, as PNG bytes with the
    layout.

    Raises:
        DataError: an image cannot be decoded.
    """
    tiles = _TILES_FEW_CLASSES if len(dataset.classes) <= _MANY_CLASSES else _TILES_MANY_CLASSES
    rows = [
        (_first(dataset.train, label, tiles), _first(dataset.synthetic, label, tiles))
        for label in dataset.classes
    ]
    real, made = (max(len(row[part]) for row in rows) for part in (0, 1))
    sheet = Image.new("RGB", ((real + made) * TILE_PX, len(rows) * TILE_PX), "white")
    inner = TILE_PX - 2
    for row, parts in enumerate(rows):
        for samples, offset in zip(parts, (0, real), strict=True):
            for column, sample in enumerate(samples):
                tile = ImageOps.fit(
                    read_image(sample.path), (inner, inner), method=Image.Resampling.BICUBIC
                )
                tile = ImageOps.expand(tile, border=1, fill=_BORDER)
                sheet.paste(tile, ((offset + column) * TILE_PX, row * TILE_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), SheetLayout(dataset.classes, TILE_PX, real, made)


def _first(samples: Sequence[Sample], label: str, count: int) -> list[Sample]:
    return [sample for sample in samples if sample.label == label][:count]

"""`coco-cls`: COCO's JSON for whole images, where a tool asks for COCO.

data/<class>/<image>   the files, unchanged
labels.json            images, annotations, categories, licenses

COCO has no task of its own for classes of whole images, so this layout is our choice: one
annotation an image, whose box is the whole image, so that readers of COCO boxes take it as it is.
File names are relative to `data`, as FiftyOne expects. Categories are numbered from 1, as in COCO.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.labelset.images.openimage import OWN_FORMATS, open_image

from ...errors import FolderError
from .source import Entry, Source

LABELS = "labels.json"


def write(source: Source, folder: Path, *, classes: Sequence[str], license_id: str) -> None:
    """Writes into the empty `folder`. Raises as `Source` does, and OSError."""
    number = {label: place for place, label in enumerate(classes, 1)}
    data, made = folder / "data", set[str]()
    data.mkdir()
    # The annotations follow the images in the file: kept on the disk until then, not in memory.
    with (
        (folder / LABELS).open("x", encoding="utf-8", newline="\n") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder) as later,
    ):
        file.write('{"info": ' + _json({"description": _DESCRIPTION}))
        file.write(', "licenses": ' + _json([{"id": 1, "name": license_id, "url": ""}]))
        categories = [
            {"id": place, "name": label, "supercategory": ""} for label, place in number.items()
        ]
        file.write(',\n"categories": ' + _json(categories) + ',\n"images": [')
        for count, entry in enumerate(source, 1):
            label_folder = entry.record.file_name.partition("/")[0]
            if label_folder not in made:
                (data / label_folder).mkdir()
                made.add(label_folder)
            with (data / entry.record.file_name).open("xb") as image_file:
                image_file.write(entry.data)
            between = ",\n" if count > 1 else "\n"
            size = _size_px(entry)
            file.write(between + _json(_image(count, entry, size)))
            later.write(between + _json(_annotation(count, number[entry.record.label], size)))
        file.write('\n],\n"annotations": [')
        later.seek(0)
        shutil.copyfileobj(later, file)
        file.write("\n]}\n")


_DESCRIPTION = "Synthetic images by class, made with SynthGrid; each box is the whole image"


def _image(number: int, entry: Entry, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": entry.record.file_name,
        "width": size[0],
        "height": size[1],
        "license": 1,
        "prompt": entry.record.prompt,
        "seed": entry.record.seed,
        "sha256": entry.record.sha256,
    }


def _annotation(number: int, category: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": number,
        "category_id": category,
        "bbox": [0, 0, *size],
        "area": size[0] * size[1],
        "iscrowd": 0,
    }


def _size_px(entry: Entry) -> tuple[int, int]:
    try:
        with open_image(io.BytesIO(entry.data), formats=OWN_FORMATS) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise FolderError(f"{entry.record.file_name} is not an image: {error}") from error
    return width, height


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

"""A labelled folder of three classes, in every image format, as the saver leaves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from comfy_nodes.labelset.imagefile import ImageFormat

PLAN = "3f1c09b2a4de"
LABELS = ("bat/../x", "ant", "蝙蝠")


def picture(index: int, how: ImageFormat, label: str, **changes: object) -> tuple:
    """A record of row `index` and the bytes of its image."""
    record = ImageRecord(
        file_name=image_file_name(label, PLAN, index, how.suffix),
        label=label,
        prompt=f"a {label}, number {index}",
        negative_prompt="",
        seed=2**53 - 1 - index,
        index=index,
        plan_id=PLAN,
        settings={"width": 16, "height": 8, "cfg": 7.0} if index % 2 else {"lora": None},
    )
    record = replace(record, **changes)
    return record, encode_image(Image.new("RGB", (16, 8), (9 * index, 0, 99)), record, how)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes tmp_path/NAME with so many images, in the formats given in turn."""

    def make(
        name: str = "set", *, images: int = 9, formats: tuple = ("PNG", "WebP", "JPEG")
    ) -> Path:
        folder = LabelledFolder(tmp_path / name)
        folder.add_all(
            [
                picture(index, ImageFormat(formats[index // 3 % len(formats)]), LABELS[index % 3])
                for index in range(images)
            ]
        )
        folder.write_card()
        (tmp_path / name / "generation.json").write_text('{"plan_id": "x"}\n', encoding="utf-8")
        return tmp_path / name

    return make


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder()

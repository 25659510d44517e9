"""A labelled folder of three classes, in every image format, as the saver leaves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client.folder.exports import place
from comfy_nodes.labelset import LabelledFolder
from comfy_nodes.labelset.images.imagefile import ImageFormat
from tests.client.folder.exports.helpers import picture

LABELS = ("bat/../x", "ant", "蝙蝠")


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


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, which takes as long as all that the machine has to write."""
    monkeypatch.setattr(place, "_wait_for_disk", lambda: None)

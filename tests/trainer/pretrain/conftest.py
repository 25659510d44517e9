"""A small labelled folder with captions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name


@pytest.fixture
def captioned(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """circle and square, two captions each, 4 images per caption."""
    folder, random = LabelledFolder(tmp_path / "made"), np.random.RandomState(4)
    for label in ("circle", "square"):
        for index in range(8):
            caption = f"a {('red', 'blue')[index % 2]} {label}"
            name = image_file_name(label, "plan", index)
            record = ImageRecord(name, label, caption, "", index, index, "plan")
            folder.add(record, encode_image(make_picture(label, random, size_px=32), record))
    return tmp_path / "made"

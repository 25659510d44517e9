"""What the tests of exports share: records, commands, what is in a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from client.__main__ import main
from comfy_nodes.labelset import ImageRecord, encode_image, image_file_name
from comfy_nodes.labelset.images.imagefile import PARAMETERS, ImageFormat
from comfy_nodes.labelset.parameters import parameters_text

PLAN = "3f1c09b2a4de"


def picture(index: int, how: ImageFormat, label: str, **changes: object) -> tuple:
    """A record of row `index` and the bytes of its image, with the texts that the saver writes."""
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
    image = Image.new("RGB", (16, 8), (9 * index, 0, 99))
    return record, encode_image(image, record, how, texts={PARAMETERS: parameters_text(record)})


def export(folder: Path, to: str, *more: object) -> Path:
    out = folder.with_name(f"{folder.name}-{to}")
    assert main(["export-data", str(folder), "--to", to, "--out", str(out), *map(str, more)]) == 0
    return out


def lines_of(folder: Path) -> list[dict]:
    text = (folder / "metadata.jsonl").read_text(encoding="utf-8")
    return [json.loads(each) for each in text.splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    assert main(["export-data", *map(str, arguments)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line

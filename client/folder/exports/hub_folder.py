"""`hf`: image files that Hugging Face's `datasets` loads, with `label` a ClassLabel.

README.md              data set card: licence, size, and the features that `load_dataset` takes
train/metadata.jsonl   one row an image; `label` is the class name, `settings` JSON text
train/<class>/<image>  the files, unchanged

torchvision's ImageFolder reads `train` as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import CARD, METADATA

from ...errors import FolderError
from .columns import hub_card, row_of
from .source import Source

# What Arrow's JSON reader, and so `datasets`, takes for a point in time where a column has no other
# text: dates, and dates with a time of day.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?", re.ASCII | re.DOTALL)


def write(source: Source, folder: Path, *, classes: Sequence[str], license_id: str) -> None:
    """Writes into the empty `folder`.

    Raises:
        FolderError, LabelsetError, OSError: as `Source` does, a text is a date, which would not be
            read back as text, or the folder cannot be written.
    """
    train = folder / "train"
    train.mkdir()
    made: set[str] = set()
    with (train / METADATA).open("x", encoding="utf-8", newline="\n") as lines:
        for entry in source:
            record = entry.record
            label_folder = record.file_name.partition("/")[0]
            if label_folder not in made:
                (train / label_folder).mkdir()
                made.add(label_folder)
            with (train / record.file_name).open("xb") as file:
                file.write(entry.data)
            row = {"file_name": record.file_name, "label": record.label, **row_of(record)}
            _refuse_dates(row)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    card = hub_card(
        source.tally,
        classes,
        "train/**",
        license_id=license_id,
        unit="line",
        records="`train/metadata.jsonl`",
    )
    (folder / CARD).write_bytes(card)


def _refuse_dates(row: dict[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, str) and _DATE.fullmatch(value):
            raise FolderError(
                f"{row['file_name']}: {name} '{value[:40]}' is a date, which `datasets` would not "
                "read as text; export with --to parquet"
            )

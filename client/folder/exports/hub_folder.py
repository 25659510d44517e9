"""`hf`: image files that Hugging Face's `datasets` loads, with `label` a ClassLabel.

README.md              data set card: licence, size, and the features that `load_dataset` takes
train/metadata.jsonl   one row an image; `label` is the class name, `settings` JSON text
train/<class>/<image>  the files, unchanged

torchvision's ImageFolder reads `train` as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from comfy_nodes.labelset import CARD, METADATA

from .columns import hub_card, row_of
from .source import Source


def write(source: Source, folder: Path, *, classes: Sequence[str], license_id: str) -> None:
    """Writes into the empty `folder`. Raises as `Source` does, and OSError."""
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

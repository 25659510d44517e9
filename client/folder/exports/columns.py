"""The columns of a data set row and how Hugging Face's libraries are told of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.errors import PlanError
from comfy_nodes.labelset import ImageRecord
from comfy_nodes.labelset.card import Tally, card_body, yaml_text
from comfy_nodes.plan import read_classes

from ...errors import FolderError

# Beside `image` and `label`. Every column has a type of its own, whether or not it has values.
COLUMNS: Mapping[str, str] = {
    "prompt": "string",
    "negative_prompt": "string",
    "seed": "int64",
    "index": "int64",
    "plan_id": "string",
    "template": "string",
    "context": "string",
    "style": "string",
    "source_image": "string",
    "source_sha256": "string",
    "settings": "string",
    "sha256": "string",
    "attempt": "int64",
    "strength": "float64",
}
UNKNOWN_LICENSE = "unknown"
_SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"))


def row_of(record: ImageRecord) -> dict[str, Any]:
    """A record's values for COLUMNS; `settings`, whose keys differ between images, as JSON text."""
    values = record.to_dict() | {"attempt": record.attempt, "strength": record.strength}
    values["settings"] = json.dumps(values["settings"], ensure_ascii=False)
    return {name: values[name] for name in COLUMNS}


def class_names(tally: Tally, like: Path | None) -> tuple[str, ...]:
    """The classes in the order of their numbers: sorted, or as in `like`.

    `like` is a file of class names or a folder of class folders. Sorted is also how torchvision's
    ImageFolder and Hugging Face's imagefolder number class folders.

    Raises:
        FolderError: `like` cannot be read, or lacks one of the classes.
    """
    labels = sorted(tally.labels)
    if like is None:
        return tuple(labels)
    try:
        names = tuple(entry.name for entry in read_classes(like))
    except PlanError as error:
        raise FolderError(str(error)) from error
    lacking = [label for label in labels if label not in names]
    if lacking:
        raise FolderError(
            f"{like} lacks the class '{lacking[0]}', which has synthetic images; add it, or leave "
            "--classes out"
        )
    return names


def size_category(images: int) -> str:
    """The Hub's name for a data set's size: "n<1K", "1K<n<10K", ..., "n>10M"."""
    lower = ""
    for limit, name in _SIZES:
        if images < limit:
            return f"{lower}<n<{name}" if lower else f"n<{name}"
        lower = name
    return f"n>{lower}"


def hub_card(
    tally: Tally,
    classes: Sequence[str],
    path: str,
    *,
    license_id: str,
    unit: str,
    records: str,
) -> bytes:
    """README.md for the Hub: `path` is the pattern of the data files, and each `unit` of `records`
    is about one image.
    """
    lines = [
        "---",
        f"license: {yaml_text(license_id)}",
        "task_categories:",
        "- image-classification",
        "tags:",
        "- synthetic",
        "- synthgrid",
        "size_categories:",
        f"- {size_category(sum(tally.labels.values()))}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {yaml_text(path)}",
        "  features:",
        *(f"  {line}" for line in _features(classes)),
        "---",
        *card_body(tally, unit=unit, records=records),
        *_license_lines(license_id),
        "",
    ]
    return "\n".join(lines).encode("utf-8", "replace")


def _license_lines(license_id: str) -> list[str]:
    if license_id != UNKNOWN_LICENSE:
        return ["", f"Licence: {license_id}."]
    return [
        "",
        "Licence: none was named. The terms of the model that made the images may apply to them; "
        "check them before you publish.",
    ]


def _features(classes: Sequence[str]) -> Iterable[str]:
    yield from ("- name: image", "  dtype: image", "- name: label", "  dtype:")
    yield from ("    class_label:", "      names:")
    yield from (f"        '{number}': {yaml_text(name)}" for number, name in enumerate(classes))
    for name, kind in COLUMNS.items():
        yield from (f"- name: {name}", f"  dtype: {kind}")


def features_json(classes: Sequence[str]) -> str:
    """The features as Hugging Face's `datasets` keeps them in the metadata of an Arrow schema."""
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in COLUMNS.items()}
    return json.dumps({"info": {"features": features}})

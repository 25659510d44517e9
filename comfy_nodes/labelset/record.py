"""ImageRecord: what is known of one image, as a line of JSON and inside the image file itself."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from PIL import Image

from ..errors import LabelsetError
from .files import sha256
from .imagefile import PNG, ImageFormat, record_inside


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image. `file_name` is relative to the folder's root, with forward slashes.

    `sha256` is of the whole file; in the copy inside the image it is "" since a file cannot hold its own hash.
    `source_image` and its hash name the real image that it began as, in the folder of real images; None where it began as
    noise. `settings` are the generator's (checkpoint, sampler, steps, cfg, width, height, ...).
    """

    file_name: str
    label: str
    prompt: str
    negative_prompt: str
    seed: int
    index: int
    plan_id: str
    template: str = ""
    context: str | None = None
    style: str | None = None
    source_image: str | None = None
    source_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """(plan_id, index): what makes an image the one that was planned."""
        return self.plan_id, self.index

    def to_json(self) -> str:
        """One line of JSON, keys in declaration order, so that equal records are equal text."""
        return json.dumps(vars(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ImageRecord:
        """The record in one line of JSON. Unknown keys are ignored, so that newer folders stay readable.

        Raises:
            LabelsetError: not JSON, not an object, or a field is missing or of the wrong type.
        """
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise LabelsetError(f"not a record: {error}") from error

    @classmethod
    def from_dict(cls, values: Any) -> ImageRecord:
        """The record in a parsed JSON object. Raises LabelsetError as `from_json` does."""
        if not isinstance(values, dict):
            raise LabelsetError(f"a record must be an object, not {type(values).__name__}")
        if not values.keys() <= _FIELDS:
            values = {key: value for key, value in values.items() if key in _FIELDS}
        try:
            record = cls(**values)
        except TypeError as error:
            raise LabelsetError(f"a record lacks a field: {error}") from error
        texts = (
            record.file_name,
            record.label,
            record.prompt,
            record.negative_prompt,
            record.plan_id,
            record.sha256,
        )
        numbers = (record.seed, record.index)
        if not all(isinstance(each, str) for each in texts) or not all(
            type(each) is int for each in numbers
        ):
            raise LabelsetError(f"a record has a field of the wrong type: {values!r}")
        if not isinstance(record.settings, dict):
            raise LabelsetError(f"a record's settings must be an object, not {record.settings!r}")
        return record


_FIELDS = frozenset(each.name for each in fields(ImageRecord))


def encode_image(
    image: Image.Image,
    record: ImageRecord,
    how: ImageFormat = PNG,
    *,
    texts: Mapping[str, str] | None = None,
    threads: int = 1,
) -> bytes:
    """The RGB image as the bytes of a file with the record, and further texts, inside. Raises LabelsetError."""
    return how.encode(
        image, record=replace(record, sha256="").to_json(), texts=texts, threads=threads
    )


def read_record(data: bytes) -> ImageRecord | None:
    """The record inside an image file, PNG, WebP or JPEG, with the hash of these bytes; None where there is none.

    Raises:
        LabelsetError: the bytes are not a whole image, or what is inside is no record.
    """
    return inspect_image(data)[0]


def inspect_image(data: bytes) -> tuple[ImageRecord | None, tuple[int, int]]:
    """What `read_record` returns, and (width, height) in pixels. Raises as `read_record` does."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size, text = image.size, record_inside(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabelsetError(f"not a whole image: {error}") from error
    return replace(ImageRecord.from_json(text), sha256=sha256(data)) if text else None, size

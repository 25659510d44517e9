"""ImageRecord: what is known about one image, as a line of JSON and inside the image file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from PIL import Image

from ..errors import LabelsetError
from .files import sha256, whole_characters
from .images.imagefile import PNG, ImageFormat, record_inside
from .images.openimage import OWN_FORMATS, open_image
from .images.seal import blank, check_seal, needs_seal, sealed


@dataclass(frozen=True)
class ImageRecord:
    """What is known about one image. `file_name` is relative to the root, with forward slashes.

    `sha256` is of the whole file; in the copy inside the image it is "", because a file cannot
    contain its own hash. `source_image` is the real image that this one started from, relative to
    the folder of real images, and `source_sha256` its hash; both are None if it started from noise.
    `attempt` counts how often the row was made before and rejected; at 0 it is not written down.
    `strength`, in (0, 1], is how far the image was let move away from its `source_image`, in plans
    that have several strengths; elsewhere it is None and not written down.
    `settings` are the generator's: single values (checkpoint, sampler, steps, cfg, width, height,
    ...), and in newer folders `files`, the model files with their hashes, and `chain`, every node
    between them and the image, as comfy_nodes.graph.chain describes it.
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
    attempt: int = 0
    strength: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as an object that any JSON reader takes; see `portable`."""
        values: dict[str, Any] = portable(self._written())
        return values

    def _written(self) -> dict[str, Any]:
        values = dict(vars(self))
        for name, usual in _USUAL.items():
            if values[name] == usual:
                del values[name]
        return values

    @property
    def key(self) -> tuple[str, int]:
        """(plan_id, index), which identifies the planned image."""
        return self.plan_id, self.index

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields: equal records are equal text.

        It is valid JSON and valid UTF-8, whatever the settings are; see `portable`.
        """
        try:
            text = _dumps(self._written())
            text.encode("utf-8")
        except ValueError:  # NaN, or text that UTF-8 cannot hold
            text = _dumps(self.to_dict())
        return text

    @classmethod
    def from_json(cls, text: str) -> ImageRecord:
        """The record in one line of JSON; unknown keys are ignored, for folders of newer versions.

        Raises:
            LabelsetError: not JSON, not an object, or a field is missing or has the wrong type.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LabelsetError(f"not a record: {error}") from error
        return cls.from_dict(values)

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
        texts_are_text = all(isinstance(getattr(record, name), str) for name in _TEXTS)
        numbers = (record.seed, record.index, record.attempt)
        is_strength = type(record.strength) in (float, int, type(None))
        if not (texts_are_text and is_strength) or any(type(each) is not int for each in numbers):
            raise LabelsetError(f"a record has a field of the wrong type: {values!r}"[:_SHOWN])
        if not isinstance(record.settings, dict):
            raise LabelsetError(
                f"a record's settings must be an object, not {record.settings!r}"[:_SHOWN]
            )
        if all(map(_is_portable, values.values())):
            return record
        return cls(**record.to_dict())


def portable(value: Any, *, depth: int = 0) -> Any:
    """The value as JSON and UTF-8 can hold it, which is what a record becomes on the disk.

    NaN and infinity become None, half characters ("\\ud800", from names that are not UTF-8) U+FFFD.

    Raises:
        LabelsetError: lists and objects are nested more than 50 deep.
    """
    if depth > _DEEPEST:
        raise LabelsetError(f"a record's settings are nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {portable(str(key)): portable(each, depth=depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(each, depth=depth + 1) for each in value]
    return value


def _is_portable(value: Any) -> bool:
    """Whether `portable` would change nothing; quick, because every line that is read asks."""
    if isinstance(value, str):
        return value.isascii() or whole_characters(value) == value
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):  # settings; deeper ones are rare
        return not any(isinstance(each, dict) or not _is_portable(each) for each in value.values())
    if isinstance(value, list):
        return all(isinstance(each, str) and _is_portable(each) for each in value)
    return value is None or isinstance(value, int)


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_DEEPEST = 50
_SHOWN = 500  # characters of a wrong record in an error
_USUAL = {"attempt": 0, "strength": None}  # not written down
_FIELDS = frozenset(each.name for each in fields(ImageRecord))
_TEXTS = ("file_name", "label", "prompt", "negative_prompt", "plan_id", "sha256")


def encode_image(
    image: Image.Image,
    record: ImageRecord,
    how: ImageFormat = PNG,
    *,
    texts: Mapping[str, str] | None = None,
    threads: int = 1,
) -> bytes:
    """The bytes of an image file with the record, its checksum and further texts inside.

    Raises:
        LabelsetError: the record is too long for a JPEG.
    """
    text = blank(replace(record, sha256="").to_json())
    return sealed(how.encode(image, record=text, texts=texts, threads=threads))


def read_record(data: bytes) -> ImageRecord | None:
    """The record inside a PNG, WebP or JPEG file, with the file's hash; None without a record.

    Raises:
        LabelsetError: the bytes are not a complete image, they do not fit their own checksums, or
            the record inside is malformed.
    """
    return inspect_image(data)[0]


def inspect_image(data: bytes) -> tuple[ImageRecord | None, tuple[int, int]]:
    """What `read_record` returns, and (width, height) in pixels. Raises as `read_record` does."""
    has_seal = check_seal(data)  # first, because decoders warn about damaged texts
    try:
        with open_image(io.BytesIO(data), formats=OWN_FORMATS) as image:
            image.load()
            size, text = image.size, record_inside(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabelsetError(f"not a whole image: {error}") from error
    if text and needs_seal(text) and not has_seal:
        raise LabelsetError("not a whole image: the checksum in its record is gone")
    return replace(ImageRecord.from_json(text), sha256=sha256(data)) if text else None, size

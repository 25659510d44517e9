"""`parquet`: the rows of `hf`, with the image files' bytes inside. Needs pyarrow, extra [data].

README.md                 data set card
data/train-00000.parquet  image {bytes, path}, label (its number), and the other columns

The schema carries the features in the form that Hugging Face's `datasets` writes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import CARD

from .columns import COLUMNS, features_json, hub_card, row_of
from .source import Entry, Source

MOST_BYTES = 500 * 10**6  # of images in a file: what the Hub's own files have
_GROUP_ROWS, _GROUP_BYTES = 100, 64 * 10**6  # small groups, so that one image is quick to find


def write(
    source: Source,
    folder: Path,
    *,
    classes: Sequence[str],
    license_id: str,
    most_bytes: int = MOST_BYTES,
) -> None:
    """Writes into the empty `folder`; about `most_bytes` of images go into each file.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FolderError, LabelsetError, OSError: as `Source` does, or the folder cannot be written.
    """
    files = _Files(folder / "data", classes, most_bytes)
    try:
        for entry in source:
            files.add(entry)
    finally:
        files.close()
    path = "data/*.parquet"
    card = hub_card(
        source.tally, classes, path, license_id=license_id, unit="row", records=f"`{path}`"
    )
    (folder / CARD).write_bytes(card)


class _Files:
    """Parquet files, one after the other, written a row group at a time."""

    def __init__(self, folder: Path, classes: Sequence[str], most_bytes: int) -> None:
        import pyarrow as pa

        folder.mkdir()
        self._folder, self._most_bytes = folder, most_bytes
        self._number = {label: number for number, label in enumerate(classes)}
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = [("image", image), ("label", pa.int64())]
        columns += [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
        self._schema = pa.schema(columns, {"huggingface": features_json(classes)})
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._file_bytes = self._count = 0
        self._writer: Any = None

    def add(self, entry: Entry) -> None:
        name = entry.record.file_name.rpartition("/")[2]
        self._rows.append(
            {
                "image": {"bytes": entry.data, "path": name},
                "label": self._number[entry.record.label],
                **row_of(entry.record),
            }
        )
        self._row_bytes += len(entry.data)
        if len(self._rows) >= _GROUP_ROWS or self._row_bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is not None and self._file_bytes + self._row_bytes > self._most_bytes:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            path = self._folder / f"train-{self._count:05d}.parquet"
            texts = [name for name in self._schema.names if name not in ("image", "sha256", "seed")]
            self._writer = pq.ParquetWriter(
                path, self._schema, use_dictionary=texts, write_statistics=texts
            )
            self._count, self._file_bytes = self._count + 1, 0
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._file_bytes += self._row_bytes
        self._rows, self._row_bytes = [], 0

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()

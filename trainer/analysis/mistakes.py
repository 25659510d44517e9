"""The worst mistakes of a grid, each with the most similar synthetic training images.

Computed when the grid is trained, so that the report needs no data folder:

    <grid>/mistakes.json   for each model's headline cell: the mistakes, and their neighbours with
                           prompt and seed
    <grid>/mistakes.png    their thumbnails, `columns` per row; `tile` counts row by row

Likeness is the cosine similarity of features: those of the model's frozen backbone if the grid has
cached them, else 16x16 colour pixels minus each image's mean, which capture only layout and colour.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.numpy import load_file

from comfy_nodes.labelset import METADATA, ImageRecord, LabelsetError
from trainer.analysis.cellkey import CellKey
from trainer.analysis.results import Results, results_of
from trainer.analysis.tracing import FIELDS, nearest_of_class, trace
from trainer.data.dataset import Dataset
from trainer.data.images import read_image, square
from trainer.data.samples import Sample
from trainer.data.shards import ImageFile, Member, record_of
from trainer.errors import TrainerError
from trainer.runs import MISTAKES_FILE, MISTAKES_SHEET, Grid, read_predictions, to_json, write_file

logger = logging.getLogger(__name__)
TILE_PX, COLUMNS = 64, 12
_MISTAKES, _NEIGHBOURS = 8, 3
_DESCRIPTOR_PX = 16
_PIXELS = f"{_DESCRIPTOR_PX}x{_DESCRIPTOR_PX} colour pixels"
_BACKBONE = "features of the frozen backbone"


@dataclass
class _Sheet:
    """Thumbnails in the order in which they are requested, each image once."""

    tiles: dict[str, Sample] = field(default_factory=dict)

    def tile(self, sample: Sample) -> int:
        self.tiles.setdefault(sample.sha256, sample)
        return list(self.tiles).index(sample.sha256)

    def to_png(self) -> bytes:
        rows = max(1, -(-len(self.tiles) // COLUMNS))
        sheet = Image.new("RGB", (COLUMNS * TILE_PX, rows * TILE_PX), "white")
        for number, sample in enumerate(self.tiles.values()):
            tile = ImageOps.fit(
                read_image(sample.path), (TILE_PX, TILE_PX), method=Image.Resampling.BICUBIC
            )
            sheet.paste(tile, (number % COLUMNS * TILE_PX, number // COLUMNS * TILE_PX))
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()


@dataclass(frozen=True)
class _Mistake:
    """A test image that some runs of a cell get wrong."""

    file: str
    true: str
    predicted: str
    wrong: int
    p_true: float
    p_predicted: float


def write_mistakes(out: Path, dataset: Dataset, grid: Grid) -> None:
    """Writes both files for the finished runs of `grid`. The same grid and data give the same
    bytes.

    A failure here is logged and not raised: a report without mistakes is better than no report.
    """
    try:
        found, sheet = _all_mistakes(results_of(grid), dataset)
        write_file(out / MISTAKES_SHEET, sheet.to_png())
        write_file(
            out / MISTAKES_FILE, to_json({"tile_px": TILE_PX, "columns": COLUMNS, "cells": found})
        )
    except (TrainerError, OSError) as error:
        logger.warning("the report will show no mistakes: %s", error)


def _all_mistakes(results: Results, dataset: Dataset) -> tuple[list[dict[str, Any]], _Sheet]:
    sheet, found = _Sheet(), []
    records = _records(dataset)
    for model in results.models:
        for key in results.headlines(model)[:1]:
            found.append(_cell_mistakes(results, key, dataset, records, sheet))
    return found, sheet


def _cell_mistakes(
    results: Results,
    key: CellKey,
    dataset: Dataset,
    records: Mapping[ImageFile, ImageRecord],
    sheet: _Sheet,
) -> dict[str, Any]:
    """One cell's worst mistakes, with the neighbours of each among the synthetic images that any of
    its seeds drew."""
    tests = {sample.file: sample for sample in dataset.test}
    mistakes = [each for each in _worst(results, key) if each.file in tests]
    made = _drawn(results, key, dataset)
    features, kind = _features(results.grid, key.model, [*made, *dataset.test])
    baseline = results.predicted.get(results.baseline(key.model), {})
    return {
        "model": key.model,
        "arm": key.arm,
        "budget": key.budget,
        "seeds": len(results.runs[key]),
        "baseline_seeds": len(baseline),
        "features": kind,
        "synthetic_images": len(made),
        "mistakes": [
            {
                "file": each.file,
                "true": each.true,
                "predicted": each.predicted,
                "wrong": each.wrong,
                "p_true": round(each.p_true, 4),
                "p_predicted": round(each.p_predicted, 4),
                "baseline_wrong": _wrong(results, baseline, each.file),
                "tile": sheet.tile(tests[each.file]),
                "nearest": _neighbours(tests[each.file], made, features, records, sheet),
            }
            for each in mistakes
        ],
        "traced": _traced(results, key, dataset, made, features, records),
    }


def _traced(
    results: Results,
    key: CellKey,
    dataset: Dataset,
    made: Sequence[Sample],
    features: Mapping[str, np.ndarray],
    records: Mapping[ImageFile, ImageRecord],
) -> list[dict[str, Any]]:
    """The templates, contexts, styles and strengths behind wrong answers; a test image counts once,
    with the class that most seeds take it for."""
    tests = {sample.file: sample for sample in dataset.test}
    if not made or any(file not in tests for file in results.files):
        return []
    number = {label: place for place, label in enumerate(results.classes)}
    runs = np.stack([results.predicted[key][seed] for seed in sorted(results.predicted[key])])
    votes = np.stack([(runs == label).sum(axis=0) for label in range(len(number))])
    predicted = votes.argmax(axis=0)
    nearest = nearest_of_class(
        np.stack([features[tests[file].sha256] for file in results.files]),
        predicted,
        np.stack([features[each.sha256] for each in made]),
        np.array([number[each.label] for each in made]),
    )
    origins = [_origin(records.get(each.path)) for each in made]
    found = trace(predicted != results.true, predicted, nearest, origins)
    return [each.to_dict() for each in found]


def _origin(record: ImageRecord | None) -> dict[str, str]:
    values = {field: getattr(record, field, None) or "" for field in FIELDS}
    return {
        field: f"{value:g}" if isinstance(value, float) else value
        for field, value in values.items()
    }


def _worst(results: Results, key: CellKey) -> list[_Mistake]:
    """The test images that most seeds get wrong, lowest probability of the true class first."""
    rows: dict[str, list[Any]] = {}
    for seed in sorted(results.runs[key]):
        for row in read_predictions(results.grid.root, results.runs[key][seed].run_id):
            rows.setdefault(row.file, []).append(row)
    found = []
    for file, each in rows.items():
        missed = [row for row in each if row.predicted != row.true]
        if missed:
            guess, _ = min(
                Counter(row.predicted for row in missed).items(),
                key=lambda item: (-item[1], item[0]),
            )
            sure = [row.p_predicted for row in missed if row.predicted == guess]
            p_true = float(np.mean([row.p_true for row in each]))
            found.append(
                _Mistake(file, each[0].true, guess, len(missed), p_true, float(np.mean(sure)))
            )
    return sorted(found, key=lambda each: (-each.wrong, each.p_true, each.file))[:_MISTAKES]


def _wrong(results: Results, runs: Mapping[int, np.ndarray], file: str) -> int:
    place = results.files.index(file)
    return sum(int(predicted[place] != results.true[place]) for predicted in runs.values())


def _drawn(results: Results, key: CellKey, dataset: Dataset) -> list[Sample]:
    """The synthetic images that any seed of this cell trained on, sorted."""
    by_name = {(sample.source, sample.file): sample for sample in dataset.synthetic}
    names: set[tuple[str, str]] = set()
    for run in results.runs[key].values():
        path = results.grid.root / run.run_id / "training_images.csv"
        with path.open(encoding="utf-8", newline="", errors="surrogatepass") as file:
            names |= {(row["source"], row["file"]) for row in csv.DictReader(file)}
    return [by_name[name] for name in sorted(names & set(by_name))]


def _neighbours(
    test: Sample,
    made: Sequence[Sample],
    features: Mapping[str, np.ndarray],
    records: Mapping[ImageFile, ImageRecord],
    sheet: _Sheet,
) -> list[dict[str, Any]]:
    if not made:
        return []
    likeness = np.stack([features[sample.sha256] for sample in made]) @ features[test.sha256]
    nearest = np.argsort(-likeness, kind="stable")[:_NEIGHBOURS]
    return [_neighbour(made[place], float(likeness[place]), records, sheet) for place in nearest]


def _neighbour(
    sample: Sample, likeness: float, records: Mapping[ImageFile, ImageRecord], sheet: _Sheet
) -> dict[str, Any]:
    record = records.get(sample.path)
    return {
        "file": sample.file,
        "source": sample.source,
        "label": sample.label,
        "likeness": round(likeness, 4),
        "prompt": record.prompt if record else None,
        "seed": record.seed if record else None,
        "tile": sheet.tile(sample),
    }


def _features(
    grid: Grid, model: str, samples: Sequence[Sample]
) -> tuple[dict[str, np.ndarray], str]:
    """A unit vector for each image by its hash, and what it is made of."""
    wanted = {sample.sha256: sample for sample in samples}
    cached = _cached(grid, model)
    if set(wanted) <= set(cached):
        return {digest: _unit(cached[digest]) for digest in wanted}, _BACKBONE
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(_descriptor, wanted.values()))
    return dict(zip(wanted, vectors, strict=True)), _PIXELS


def _cached(grid: Grid, model: str) -> dict[str, np.ndarray]:
    """The cached features of a frozen backbone, by image hash; empty if there are none."""
    for path in sorted((grid.root / "features").glob(f"{model.replace(':', '-')}-*.safetensors")):
        try:
            stored = load_file(path)
            hashes = [bytes(row).hex() for row in stored["sha256"]]
            return dict(zip(hashes, stored["features"].astype(np.float64), strict=True))
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            logger.warning("%s cannot be read (%s)", path, error)
    return {}


def _descriptor(sample: Sample) -> np.ndarray:
    pixels = square(read_image(sample.path), _DESCRIPTOR_PX).astype(np.float64).ravel()
    return _unit(pixels - pixels.mean())


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _records(dataset: Dataset) -> dict[ImageFile, ImageRecord]:
    """The records of the synthetic images, by path."""
    packed = [each.path for each in dataset.synthetic if isinstance(each.path, Member)]
    found: dict[ImageFile, ImageRecord] = {each: record_of(each) for each in packed}
    for root in _roots(dataset.synthetic):
        path = root / METADATA
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = ImageRecord.from_json(line)
            except LabelsetError:
                # An empty or unfinished last line; the data set was checked when it was read.
                continue
            found[root / record.file_name] = record
    return found


def _roots(samples: Iterable[Sample]) -> list[Path]:
    """The folders that these samples' names are relative to; none for images in shards."""
    return list(
        dict.fromkeys(
            sample.path.parents[len(Path(sample.file).parts) - 1]
            for sample in samples
            if isinstance(sample.path, Path)
        )
    )

"""A selected source has what its check keeps, and its random twin as many without the filter."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from comfy_nodes.labelset.quality.verdicts import Verdict, quality_folder, write_verdicts
from trainer.config import GridConfig
from trainer.config.selection import parse_selection
from trainer.data.dataset import Dataset, load_dataset
from trainer.errors import DataError
from trainer.grid.grid import run_grid
from trainer.quality.select import with_selections
from trainer.report import write_report

THRESHOLDS = {
    "label": {"threshold": 0.5},
    "outlier": {"threshold": 0.3},
    "real": {"threshold": 0.2},
}


def write_check(folder: Path, dataset: Dataset, *, name: str = "check", shift: float = 0.0) -> Path:
    """Scores that rise with the number of the image in its class, 0.05 a step."""
    verdicts, seen = [], Counter[str]()
    for each in dataset.synthetic:
        step = seen[each.label]
        seen[each.label] += 1
        scores = {"label": 0.25 + 0.05 * step + shift, "outlier": 0.05 * step, "real": 0.05 * step}
        scores["copy"] = 0.9 if step == 11 else 0.0
        reason = "blank: black" if step == 10 else ""
        verdicts.append(Verdict(each.sha256, each.file, each.label, reason, scores))
    path = quality_folder(folder) / f"{name}.csv"
    write_verdicts(path, verdicts)
    path.with_suffix(".json").write_text(json.dumps({"thresholds": THRESHOLDS}))
    return path


@pytest.fixture
def dataset(real: Path, synthetic: Path) -> Dataset:
    found = load_dataset(real, {"syn": synthetic})
    write_check(synthetic, found)
    return found


def kept(dataset: Dataset, text: str, folder: Path) -> list[int]:
    """Which of the twelve images of the first class are in the source "c"."""
    found = with_selections(dataset, [parse_selection(text)], {"syn": folder})
    names = [each.file for each in found.synthetic if each.source == "syn"][:12]
    return [names.index(each.file) for each in found.pool("c", dataset.classes[0])]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("label", range(5, 12)),
        ("outlier", range(7)),
        ("real", range(4, 12)),
        ("copy", range(11)),
        ("blank", [*range(10), 11]),
        ("real>=0.1,label<0.6", range(2, 7)),
        ("label,copy,blank", range(5, 10)),
    ],
)
def test_terms_are_met_by_what_is_kept(
    dataset: Dataset, synthetic: Path, terms: str, expected: range | list[int]
) -> None:
    assert kept(dataset, f"c=syn:{terms}", synthetic) == list(expected)


def test_as_many_are_drawn_without_the_filter(dataset: Dataset, synthetic: Path) -> None:
    found = with_selections(dataset, [parse_selection("c=syn:label")], {"syn": synthetic})
    assert found.sources == ("syn", "c", "c.random")
    for label in dataset.classes:
        chosen, random = (found.pool(name, label) for name in ("c", "c.random"))
        assert len(chosen) == len(random) == 7
        assert {each.sha256 for each in random} <= {
            each.sha256 for each in dataset.pool("syn", label)
        }
        assert {each.sha256 for each in random} != {each.sha256 for each in chosen}
    assert found.synthetic[: len(dataset.synthetic)] == dataset.synthetic


def test_the_newest_check_that_knows_all_images_counts(dataset: Dataset, synthetic: Path) -> None:
    newer = write_check(synthetic, dataset, name="newer", shift=0.1)
    os.utime(newer, (2e9, 2e9))
    assert kept(dataset, "c=syn:label", synthetic) == list(range(3, 12))
    less = replace(dataset, synthetic=dataset.synthetic[1:])
    os.utime(write_check(synthetic, less, name="part"), (3e9, 3e9))
    newer.with_name("broken.csv").write_text("no check")
    os.utime(newer.with_name("broken.csv"), (4e9, 4e9))
    assert kept(dataset, "c=syn:label", synthetic) == list(range(3, 12))


def test_without_a_check_or_with_an_empty_class_it_says_what_to_do(
    dataset: Dataset, synthetic: Path
) -> None:
    with pytest.raises(DataError, match="keeps no image of class 'circle'; ask for less"):
        kept(dataset, "c=syn:real>=0.9", synthetic)
    with pytest.raises(DataError, match="has no score 'clip', only copy, label, outlier, real"):
        kept(dataset, "c=syn:clip>=0.9", synthetic)
    more = replace(dataset, synthetic=(*dataset.synthetic, replace(dataset.train[0], source="syn")))
    with pytest.raises(DataError, match="no check in it knows all of its images; run: synthgrid"):
        kept(more, "c=syn:label", synthetic)
    for path in quality_folder(synthetic).iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has not been checked; run: synthgrid check"):
        kept(dataset, "c=syn:label", synthetic)


def test_a_grid_trains_the_selection_beside_its_random_twin_and_compares_them(
    real: Path, synthetic: Path, dataset: Dataset, tmp_path: Path
) -> None:
    config = GridConfig(
        str(real),
        str(tmp_path / "grid"),
        synthetic={"syn": str(synthetic)},
        models=("cnn",),
        arms=("real", "add:1@clean"),
        select=("clean=syn:label",),
        budgets=("updates",),
        seeds=2,
        updates=3,
        quick=True,
        image_size_px=32,
        device="cpu",
    )
    grid = run_grid(config)
    assert {run.arm for run in grid.runs} == {"real", "add:1@clean", "add:1@clean.random"}
    page = write_report(grid.root)
    said = json.loads((grid.root / "results.json").read_text())
    (duel,) = said["direct_comparisons"]
    assert "clean.random" in json.dumps(duel)
    (sentence,) = [each for each in said["answers"] if each.startswith("Selecting 'clean'")]
    assert "against as many images at random" in sentence
    assert len(said["short_verdicts"]) == 1
    assert "clean.random" in page.read_text()
    assert len(run_grid(config).runs) == len(grid.runs)

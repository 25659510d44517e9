"""Further test sets: every run is tested on each, nothing is trained on them, and a grid without
any is as before.

Covers: trainer.report.sets.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.errors import ConfigError, DataError, ReportError
from trainer.grid.grid import prepare_grid, run_grid
from trainer.report import write_report
from trainer.runs import read_predictions


@pytest.fixture
def sketches(tmp_path: Path, make_shapes: Callable[..., Path]) -> Path:
    """Three classes of 4 harder shapes."""
    return make_shapes(tmp_path / "sketches", per_class=4, seed=9, hard=True)


@pytest.fixture
def further(config: GridConfig, sketches: Path, real: Path) -> GridConfig:
    """The small grid, tested on the sketches too, and once more on its own test images."""
    return replace(config, tests={"sketch": str(sketches), "same": str(real / "test")})


def test_every_run_is_tested_on_each_set(further: GridConfig) -> None:
    grid = run_grid(further)
    for run in grid.runs:
        assert len(read_predictions(grid.root, run.run_id, "sketch")) == 12
        assert set(run.metrics["tests"]) == {"sketch", "same"}
        own = read_predictions(grid.root, run.run_id)
        assert read_predictions(grid.root, run.run_id, "same") == own
        assert run.metrics["tests"]["same"]["f1"] == run.metrics["f1"]
        assert run.metrics["test_images"] == 15
    assert grid.info["images_per_class"]["test:sketch"] == [4, 4, 4]


def test_they_change_nothing_that_is_trained(config: GridConfig, sketches: Path) -> None:
    plain = run_grid(config)
    more = run_grid(replace(config, out=f"{config.out}-more", tests={"sketch": str(sketches)}))
    assert {run.run_id for run in plain.runs}.isdisjoint(run.run_id for run in more.runs)
    for one, other in zip(plain.runs, more.runs, strict=True):
        for name in ("model.safetensors", "predictions.csv"):
            first, second = plain.root / one.run_id / name, more.root / other.run_id / name
            assert first.read_bytes() == second.read_bytes()
    assert not list(plain.root.glob("*/predictions-*.csv"))
    assert "tests" not in plain.runs[0].metrics
    assert set(plain.info["fingerprints"]) == {"train", "test", "synthetic", "more"}


def test_the_report_has_each_set_in_answers_tables_and_files(further: GridConfig) -> None:
    grid = run_grid(further)
    page = write_report(grid.root).read_text(encoding="utf-8")
    found = json.loads((grid.root / "results.json").read_text(encoding="utf-8"))
    assert "on the test set “sketch”" in " ".join(found["short_verdicts"])
    assert [" on the test set “sketch” by" in each for each in found["answers"]] == [0, 1, 0]
    assert "<h2>Test sets</h2>" in page
    assert page.count("<h2>The grid</h2>") == 3
    assert "All of it on the test set “same”" in page
    lines = found["tables"]["text"].splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["own"] * 2 + ["sketch"] * 2 + ["same"] * 2
    assert found["tests"]["same"]["cells"][0]["metrics"] == found["cells"][0]["metrics"]
    table = (grid.root / "results.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["f1@same"] for row in rows] == [row["f1"] for row in rows]
    assert {row["f1@sketch"] for row in rows} == {
        str(run.metrics["tests"]["sketch"]["f1"]) for run in grid.runs
    }


def test_families_span_all_sets(further: GridConfig) -> None:
    """The same images a second time double the corrected p-value of a headline."""
    alone = run_grid(replace(further, tests={}, out=f"{further.out}-alone"))
    twice = run_grid(replace(further, tests={"same": further.tests["same"]}))
    p_values = []
    for grid in (alone, twice):
        write_report(grid.root)
        found = json.loads((grid.root / "results.json").read_text(encoding="utf-8"))
        p_values.append(found["cells"][1]["p_holm"])
    assert p_values[1] == pytest.approx(min(1.0, 2 * p_values[0]))


def test_a_set_with_other_classes_is_refused(config: GridConfig, sketches: Path) -> None:
    (sketches / "cross").rename(sketches / "star")
    with pytest.raises(DataError, match=r"classes do not match: .*'cross'; only in .*sketches"):
        prepare_grid(replace(config, tests={"sketch": str(sketches)}))
    shutil.rmtree(sketches / "star")
    with pytest.raises(DataError, match="sketches has no images of these classes: 'cross'"):
        prepare_grid(replace(config, tests={"sketch": str(sketches)}))


def test_a_folder_with_train_and_test_is_named_with_its_test_folder(
    config: GridConfig, real: Path
) -> None:
    with pytest.raises(DataError, match=r"to test on the latter: .*real.test"):
        prepare_grid(replace(config, tests={"again": str(real)}))


def test_a_set_that_is_trained_on_is_refused(config: GridConfig, real: Path) -> None:
    with pytest.raises(DataError, match="18 of 18 test images are trained on as well"):
        prepare_grid(replace(config, tests={"again": str(real / "train")}))


def test_missing_predictions_are_named(further: GridConfig) -> None:
    grid = run_grid(further)
    (grid.root / grid.runs[0].run_id / "predictions-sketch.csv").unlink()
    with pytest.raises(ReportError, match=r"predictions-sketch\.csv cannot be read"):
        write_report(grid.root)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a b": "x"}, "test set 'a b' does not have a valid name"),
        ({"a": ""}, "test set 'a' must name a folder"),
        ({"a": "x", "A": "y"}, "two test sets have the same name"),
        (["x"], "tests must be folders by name"),
    ],
)
def test_names_and_folders_are_checked(config: GridConfig, given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, tests=given)  # type: ignore[arg-type]


def test_they_do_not_go_with_seeds_that_split_anew(config: GridConfig) -> None:
    with pytest.raises(ConfigError, match="tests"):
        replace(config, test_share=0.5, tests={"a": "x"})


def test_the_command_takes_names_and_folders(
    real: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = ["grid", "--real", str(real), "--out", str(tmp_path / "out")]
    assert main([*grid, "--test", "a=x", "--test", "y/a"]) == 1
    assert "--test y/a: the name 'a' is taken" in caplog.text
    assert main([*grid, "--test", "a b"]) == 1
    assert "test set 'a b' does not have a valid name" in caplog.text
    missing = f"a={tmp_path / 'missing'}"
    assert main([*grid, "--test", missing, "--models", "cnn", "--ratios", "0"]) == 1
    assert "missing is not a folder" in caplog.text

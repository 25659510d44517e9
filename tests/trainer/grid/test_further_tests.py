"""Further test sets: every run is tested on each, nothing is trained on them, and a grid without
any is as before.

Covers: trainer.report.sections.sets.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.errors import ConfigError, DataError, ReportError
from trainer.grid.grid import prepare_grid, run_grid
from trainer.report import write_report
from trainer.runs import Grid, read_predictions


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    """Real and synthetic shapes, and 4 sketches per class."""
    root = tmp_path_factory.mktemp("images")
    make_shapes(root / "real" / "train", per_class=6, seed=1)
    make_shapes(root / "real" / "test", per_class=5, seed=2)
    make_shapes(root / "made", per_class=12, seed=3)
    make_shapes(root / "sketches", per_class=4, seed=9, hard=True)
    return root


def small(images: Path, out: str, **changes: object) -> GridConfig:
    """Two arms and two seeds."""
    return GridConfig(
        str(images / "real"),
        str(images / out),
        str(images / "made"),
        models=("cnn",),
        recipe="classic",
        ratios=(0.0, 2.0),
        seeds=2,
        image_size_px=32,
        updates=6,
        device="cpu",
        budgets=("updates",),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def plain(images: Path) -> Grid:
    return run_grid(small(images, "plain"))


@pytest.fixture(scope="module")
def further(images: Path) -> Grid:
    """The same, tested on the sketches too, and once more on its own test images."""
    tests = {"sketch": str(images / "sketches"), "same": str(images / "real" / "test")}
    return run_grid(small(images, "further", tests=tests))


@pytest.fixture
def sketches(images: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(images / "sketches", tmp_path / "sketches"))


def report_of(grid: Grid) -> dict[str, Any]:
    write_report(grid.root)
    found: dict[str, Any] = json.loads((grid.root / "results.json").read_text(encoding="utf-8"))
    return found


def test_every_run_is_tested_on_each_set(further: Grid) -> None:
    for run in further.runs:
        assert len(read_predictions(further.root, run.run_id, "sketch")) == 12
        assert set(run.metrics["tests"]) == {"sketch", "same"}
        own = read_predictions(further.root, run.run_id)
        assert read_predictions(further.root, run.run_id, "same") == own
        assert run.metrics["tests"]["same"]["f1"] == run.metrics["f1"]
        assert run.metrics["test_images"] == 15
    assert further.info["images_per_class"]["test:sketch"] == [4, 4, 4]


def test_they_change_nothing_that_is_trained(plain: Grid, further: Grid) -> None:
    assert {run.run_id for run in plain.runs}.isdisjoint(run.run_id for run in further.runs)
    for one, other in zip(plain.runs, further.runs, strict=True):
        for name in ("model.safetensors", "predictions.csv"):
            first, second = plain.root / one.run_id / name, further.root / other.run_id / name
            assert first.read_bytes() == second.read_bytes()
    assert not list(plain.root.glob("*/predictions-*.csv"))
    assert "tests" not in plain.runs[0].metrics
    assert set(plain.info["fingerprints"]) == {"train", "test", "synthetic", "more"}


def test_the_report_has_each_set_in_answers_tables_and_files(further: Grid) -> None:
    found = report_of(further)
    page = (further.root / "report.html").read_text(encoding="utf-8")
    assert "on the test set “sketch”" in " ".join(found["short_verdicts"])
    assert [" on the test set “sketch” by" in each for each in found["answers"]] == [0, 1, 0]
    assert "<h2>Test sets</h2>" in page
    assert page.count("<h2>The grid</h2>") == 3
    assert "All of it on the test set “same”" in page
    assert page.count("3 headline comparisons") >= 4  # on each set, and in the methods
    lines = found["tables"]["text"].splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["own"] * 2 + ["sketch"] * 2 + ["same"] * 2
    assert found["tests"]["same"]["cells"][0]["metrics"] == found["cells"][0]["metrics"]
    cell = found["tests"]["sketch"]["cells"][0]
    stored = [run.metrics["tests"]["sketch"]["nll"] for run in further.runs if run.arm == "real"]
    assert cell["metrics"]["nll"]["value"] == pytest.approx(sum(stored) / len(stored))
    table = (further.root / "results.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["f1@same"] for row in rows] == [row["f1"] for row in rows]
    assert {row["f1@sketch"] for row in rows} == {
        str(run.metrics["tests"]["sketch"]["f1"]) for run in further.runs
    }


def test_families_span_all_sets(plain: Grid, further: Grid) -> None:
    alone, all_sets = report_of(plain)["cells"][1], report_of(further)
    own, same = all_sets["cells"][1], all_sets["tests"]["same"]["cells"][1]
    assert own["changes"] == same["changes"] == alone["changes"]
    assert own["p_holm"] == same["p_holm"] >= min(1.0, 2 * alone["p_holm"])


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


def test_missing_predictions_are_named(further: Grid, tmp_path: Path) -> None:
    root = shutil.copytree(further.root, tmp_path / "grid")
    (root / further.runs[0].run_id / "predictions-sketch.csv").unlink()
    with pytest.raises(ReportError, match=r"predictions-sketch\.csv cannot be read"):
        write_report(root)


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

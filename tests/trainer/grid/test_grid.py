"""A grid from folders to runs: resumable, repeatable, and blind to the test images until the
end.

Covers: trainer.data.contact_sheet, trainer.training.run.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.config import GridConfig
from trainer.errors import ReportError
from trainer.grid.grid import prepare_grid, run_grid
from trainer.models.registry import MODELS
from trainer.report import write_report
from trainer.runs import Grid, is_done, read_grid, read_predictions


def results(grid: Grid) -> bytes:
    write_report(grid.root)
    return (grid.root / "results.csv").read_bytes()


def written(grid: Grid, name: str) -> list[bytes]:
    return [(grid.root / run.run_id / name).read_bytes() for run in grid.runs]


@pytest.mark.parametrize(
    "model",
    ["cnn", "timm:test_resnet.r160_in1k"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("timm:test_resnet.r160_in1k:finetune", *MODELS)
        if name != "cnn"
    ],
)
def test_a_quick_grid_of_any_model_goes_through_everything(
    config: GridConfig, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.config.grid._QUICK_UPDATES", 4)
    quick = replace(
        config, models=(model,), quick=True, allow_untrained=True, updates=None, image_size_px=None
    )
    grid = run_grid(quick)
    assert [run.status for run in grid.runs] == ["done"] * 2
    for run in grid.runs:
        folder = grid.root / run.run_id
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "config.json",
            "metrics.json",
            "predictions.csv",
            "training_images.csv",
            "model.safetensors",
            "DONE",
        }
        assert len(read_predictions(grid.root, run.run_id)) == run.metrics["test_images"] == 15
        assert run.metrics["synthetic_images"] == 18 * run.ratio
    assert not list(grid.root.glob(".partial-*"))


def test_the_same_grid_elsewhere_gives_the_same_bytes(config: GridConfig, tmp_path: Path) -> None:
    two = replace(config, seeds=2)
    first, again = run_grid(two), run_grid(replace(two, out=str(tmp_path / "again")))
    assert results(first) == results(again)
    for name in ("predictions.csv", "model.safetensors", "training_images.csv"):
        assert written(first, name) == written(again, name)


def test_only_a_run_without_done_is_trained_again(config: GridConfig) -> None:
    grid = run_grid(config)
    before = results(grid)
    times = {
        run.run_id: (grid.root / run.run_id / "metrics.json").stat().st_mtime_ns
        for run in grid.runs
    }
    undone = grid.runs[1].run_id
    (grid.root / undone / "DONE").unlink()
    assert [run.status for run in read_grid(grid.root).runs].count("missing") == 1
    grid = run_grid(config)
    changed = [
        name
        for name, time in times.items()
        if (grid.root / name / "metrics.json").stat().st_mtime_ns != time
    ]
    assert changed == [undone]
    assert results(grid) == before


def with_old_names(path: Path) -> None:
    """Rewrites a JSON file as it was before weight_decay and dtype had these names."""
    old = path.read_text(encoding="utf-8")
    old = old.replace('"weight_decay":', '"l2":').replace('"dtype":', '"precision":')
    assert '"weight_decay"' not in old
    path.write_text(old, encoding="utf-8")


def test_a_grid_in_the_old_format_is_resumed_without_training_and_reported(
    config: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files say `l2` and `precision`; so may the config file that the grid was made with."""
    grid = run_grid(config)
    before = results(grid)
    configs = [grid.root / run.run_id / "config.json" for run in grid.runs]
    for path in (*configs, grid.root / "grid.json"):
        with_old_names(path)
    stored = [path.read_bytes() for path in configs]
    assert b'"l2": 0.0005' in stored[0]
    assert b'"precision": "auto"' in stored[0]
    assert results(read_grid(grid.root)) == before

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("trainer.grid.grid._train_all", refuse)
    options = json.loads((grid.root / "grid.json").read_text(encoding="utf-8"))["config"]
    assert {"l2", "precision"} <= options.keys()
    again = run_grid(GridConfig.from_dict(options))
    assert [run.run_id for run in again.runs] == [run.run_id for run in grid.runs]
    assert [run.status for run in again.runs] == ["done"] * 2
    assert [path.read_bytes() for path in configs] == stored
    assert results(again) == before


def test_other_data_or_settings_make_other_runs_and_leave_the_old(
    config: GridConfig, real: Path
) -> None:
    old = {run.run_id for run in run_grid(config).runs}
    settings = {run.run_id for run in run_grid(replace(config, weight_decay=0.01)).runs}
    Image.new("RGB", (48, 48)).save(real / "test" / "cross" / "000.png")
    data = {run.run_id for run in run_grid(config).runs}
    assert not old & settings
    assert not old & data
    assert all(is_done(Path(config.out), name) for name in old)


def test_test_images_have_no_part_in_training(
    config: GridConfig, real: Path, tmp_path: Path
) -> None:
    """With all test images replaced, the networks are the same to the bit, and so is what they were
    trained on."""
    first = run_grid(config)
    for path in (real / "test").rglob("*.png"):
        Image.effect_noise((48, 48), 90).convert("RGB").save(path)
    second = run_grid(replace(config, out=str(tmp_path / "second")))
    for name in ("model.safetensors", "training_images.csv"):
        assert written(first, name) == written(second, name)
    assert written(first, "predictions.csv") != written(second, "predictions.csv")


def test_training_images_are_nested_over_ratios_and_validation_is_real(config: GridConfig) -> None:
    grid = run_grid(replace(config, ratios=(0.0, 1.0, 2.0)))
    tables = [
        list(csv.DictReader(data.decode().splitlines()))
        for data in written(grid, "training_images.csv")
    ]
    used = [{row["file"] for row in rows if row["source"] == "synthetic"} for rows in tables]
    assert [len(files) for files in used] == [0, 18, 36]
    assert used[1] < used[2]
    held = [sorted(row["file"] for row in rows if row["use"] == "validation") for rows in tables]
    assert held[0] == held[1] == held[2]
    assert all(
        row["source"] == "real" for rows in tables for row in rows if row["use"] == "validation"
    )


def test_a_failed_run_says_why_and_the_rest_go_on(config: GridConfig) -> None:
    """At this learning rate no run survives, and the second is tried after the first."""
    grid = run_grid(replace(config, learning_rate=1e30))
    assert [run.status for run in grid.runs] == ["failed", "failed"]
    assert "update" in grid.runs[0].error
    assert "failed" in write_report(grid.root).read_text(encoding="utf-8")
    assert not is_done(grid.root, grid.runs[0].run_id)


def test_features_are_computed_once_and_kept(config: GridConfig) -> None:
    frozen = replace(config, models=("resnet18",), allow_untrained=True, image_size_px=32)
    grid = run_grid(frozen)
    (cache,) = (grid.root / "features").iterdir()
    before = results(grid)
    for run in grid.runs:
        (grid.root / run.run_id / "DONE").unlink()
    stamp = cache.stat().st_mtime_ns
    assert results(run_grid(frozen)) == before
    assert cache.stat().st_mtime_ns == stamp
    cache.write_bytes(b"damaged")
    (grid.root / grid.runs[0].run_id / "DONE").unlink()
    assert results(run_grid(frozen)) == before


@pytest.fixture
def scarce(tmp_path: Path, make_shapes: Callable[..., Path]) -> Path:
    """Three real images per class, 20 to test on; `good` holds 30 more of the same kind, `shuffled`
    the same mislabelled."""
    make_shapes(tmp_path / "real" / "train", per_class=3, seed=1)
    make_shapes(tmp_path / "real" / "test", per_class=20, seed=2)
    files = sorted(make_shapes(tmp_path / "good", per_class=30, seed=3).rglob("*.png"))
    order = np.random.RandomState(0).permutation(len(files))
    for path, source in zip(files, order, strict=True):
        target = tmp_path / "shuffled" / path.relative_to(tmp_path / "good")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[source], target)
    return tmp_path


def test_informative_synthetic_images_help_and_shuffled_labels_do_not(scarce: Path) -> None:
    grid = run_grid(
        GridConfig(
            str(scarce / "real"),
            str(scarce / "grid"),
            {name: str(scarce / name) for name in ("good", "shuffled")},
            models=("cnn",),
            recipe="classic",
            ratios=(0.0,),
            arms=("add:10@good", "add:10@shuffled"),
            seeds=1,
            image_size_px=32,
            updates=40,
            device="cpu",
            budgets=("updates",),
        )
    )
    real_only, good, shuffled = (run.metrics["accuracy"] for run in grid.runs)
    assert good > real_only + 0.15
    assert shuffled < 0.55


def test_grid_json_says_what_the_grid_is(config: GridConfig) -> None:
    grid = run_grid(config)
    info = json.loads((grid.root / "grid.json").read_text(encoding="utf-8"))
    assert info["classes"] == ["circle", "cross", "square"]
    assert info["images_per_class"] == {
        "train": [6] * 3,
        "test": [5] * 3,
        "synthetic": [12] * 3,
        "more": [0] * 3,
    }
    assert set(info["fingerprints"]) == {"train", "test", "synthetic", "more"}
    assert info["models"]["cnn"]["training"]["updates"] == 6
    cost = info["models"]["cnn"]["cost"]
    assert (cost["image_size_px"], cost["classes"]) == (32, 3)
    assert cost["ms_alone"] > 0
    again = run_grid(config).info["models"]["cnn"]["cost"]
    assert again == cost  # measured once for a folder
    assert str(config.out) not in info["versions"].values()


@pytest.mark.skipif(os.name == "nt", reason="no limits on the size of files")
def test_a_full_disk_ends_the_grid_in_one_line_and_it_goes_on_later(config: GridConfig) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # weights are larger than that
    try:
        with pytest.raises(
            ReportError, match=r"cannot write .*cnn-real-seed0.*; check space"
        ) as caught:
            run_grid(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [run.status for run in read_grid(Path(config.out)).runs] == ["missing"] * 2
    assert not list(Path(config.out).glob(".partial-*"))
    assert [run.status for run in run_grid(config).runs] == ["done"] * 2


def test_a_modern_grid_holds_nothing_out_resumes_to_the_same_bytes_and_reports(
    config: GridConfig,
) -> None:
    modern = replace(
        config, recipe="modern", quick=True, arms=("augment:crop", "add:2+augment:rand")
    )
    grid = run_grid(modern)
    assert {run.metrics["validation_images"] for run in grid.runs} == {0}
    assert {run.metrics["validation_loss"] for run in grid.runs} == {None}
    models = written(grid, "model.safetensors")
    shutil.rmtree(grid.root / grid.runs[1].run_id)
    assert written(run_grid(modern), "model.safetensors") == models
    text = write_report(grid.root).read_text(encoding="utf-8")
    assert "No image is held out for validation" in text
    assert "real, crop augmentation" in text
    assert "real + 12 synthetic, rand augmentation" in text


def test_another_ratio_leaves_the_runs_of_a_modern_grid_as_they_are(config: GridConfig) -> None:
    # In batches of 2, passes over the larger cell would take more than the fewest updates.
    modern = replace(
        config, recipe="modern", updates=None, batch_size=2, budgets=("updates", "epochs")
    )
    before, after = (
        {run.run_id for run in prepare_grid(replace(modern, ratios=ratios)).runs}
        for ratios in ((0.0, 1.0), (0.0, 1.0, 2.0))
    )
    assert len(before) == 3
    assert before < after


def test_runs_that_stay_at_chance_are_retried_kept_and_named(config: GridConfig) -> None:
    wild = replace(config, recipe="modern", updates=2, learning_rate=300.0, ratios=(0.0,))
    grid = run_grid(wild)
    assert [(run.metrics["collapsed"], run.metrics["retries"]) for run in grid.runs] == [(True, 2)]
    text = write_report(grid.root).read_text(encoding="utf-8")
    assert "no better than guessing, so they say nothing about what they were trained on" in text
    assert "1 of 1 trainings diverged or stayed at chance and started again" in text

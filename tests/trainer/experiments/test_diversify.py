"""Diversify: which cells it trains, its recoloured test images, and what it concludes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.config import GridConfig
from trainer.errors import ConfigError
from trainer.experiments.diversify import conclusions, grid_config, main, recolour
from trainer.runs import read_grid


@pytest.fixture
def folders(tmp_path: Path, make_shapes: Callable[..., Path]) -> Path:
    """Real shapes, and two sources of others."""
    make_shapes(tmp_path / "real" / "train", per_class=6, seed=1)
    make_shapes(tmp_path / "real" / "test", per_class=4, seed=2)
    make_shapes(tmp_path / "naive", per_class=8, seed=3)
    make_shapes(tmp_path / "diverse", per_class=8, seed=4, hard=True)
    return tmp_path


def arguments(folders: Path, *more: str) -> list[str]:
    sources = [f"{name}={folders / name}" for name in ("naive", "diverse")]
    given = ["--real", str(folders / "real"), "--out", str(folders / "out")]
    return [*given, "--synthetic", sources[0], "--synthetic", sources[1], *more]


def test_it_runs_through_and_compares_the_sources_on_every_test_set(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--seeds", "2", "--updates", "4", "--image-size", "32", "--recoloured")
    assert main(arguments(folders, "--quick", *more)) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert lines[0].startswith("the small CNN: add:1@diverse against add:1@naive: ")
    assert lines[1].startswith("the small CNN on the test set “recoloured”: add:1@diverse against")


@pytest.mark.slow
def test_a_vision_transformer_is_compared_beside_the_cnn(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vit = "timm:test_vit:scratch"
    more = ("--quick", "--seeds", "2", "--updates", "4", "--image-size", "32")
    assert main(arguments(folders, *more, "--models", f"cnn,{vit}")) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("the small CNN: add:1@diverse against add:1@naive: ")
    assert second.startswith("the test_vit of timm trained from scratch: add:1@diverse against ")
    grid = read_grid(folders / "out")
    trained = {(run.model, run.arm): run.metrics["updates"] for run in grid.runs}
    assert set(trained.values()) == {4}
    assert {arm for model, arm in trained if model == vit} == {
        "real",
        "add:1@naive",
        "add:1@diverse",
    }


def test_auxiliary_batch_norm_is_refused_for_a_transformer(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["--real", "demo:digits", "--out", str(folders / "out"), "--quick", "--aux"]
    assert main([*given, "--models", "timm:test_vit:scratch"]) == 1
    assert not (folders / "out").exists()
    assert "'timm:test_vit:scratch' trains no batch normalisation, so --aux means" in caplog.text
    assert "--norms" not in caplog.text


def test_recoloured_images_keep_their_shape_and_their_contrast(folders: Path) -> None:
    test, out = folders / "real" / "test", folders / "recoloured"
    recolour(test, out)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert len(before) == 12
    recolour(test, out)
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    colours = set()
    for path in before:
        with Image.open(test / path.relative_to(out)) as image:
            grey = np.asarray(image.convert("L"), float).ravel()
        with Image.open(path) as image:
            made = np.asarray(image, float).reshape(-1, 3)
        slopes, starts = np.polyfit(grey, made, 1)
        assert np.abs(grey[:, None] * slopes + starts - made).max() <= 0.51
        assert abs(255 * slopes.mean()) >= 100
        colours.add(tuple(starts.round()))
    assert len(colours) == 12


@pytest.mark.parametrize(("more", "images"), [(["--redraw", "5"], 30), ([], 36), (["--quick"], 8)])
def test_a_bank_makes_as_many_images_as_the_largest_amount_needs(
    folders: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], images: int
) -> None:
    asked: dict[str, object] = {}

    def made(real: Path, bank: Path, out: Path, **given: object) -> dict[str, Path]:
        asked.update(given, real=real, bank=bank, out=out)
        return {name: folders / name for name in ("naive", "diverse")}

    configs: list[GridConfig] = []
    monkeypatch.setattr("trainer.experiments.diversify.make_sets", made)
    monkeypatch.setattr(
        "trainer.experiments.diversify.run_experiment",
        lambda parser, build, given, conclude: configs.append(build(parser.parse_args(given))) or 0,
    )
    given = ["--real", str(folders / "real"), "--out", str(folders / "out"), *more]
    assert main([*given, "--bank", "bank.json", "--server", "http://host:1"]) == 0
    assert asked["per_class"] == images
    assert (asked["real"], asked["bank"]) == (folders / "real", Path("bank.json"))
    assert (asked["out"], asked["server"]) == (folders / "out" / "made", "http://host:1")
    assert list(configs[0].sources) == ["naive", "diverse"]


def test_the_bank_and_images_exclude_each_other(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(arguments(folders, "--quick", "--bank", "bank.json")) == 1
    assert "leave --synthetic out" in caplog.text


@pytest.mark.slow
def test_one_command_makes_digits_and_images_and_compares_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--real", "demo:digits", "--out", str(tmp_path / "out"), "--no-mirror"]
    assert main([*given, "--quick", "--seeds", "2", "--recoloured"]) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    others = ("lar", "lar-cd", "lar-cd-sd") * 2
    for line, name in zip(lines, others, strict=True):
        assert f": add:1@{name} against add:1@naive: " in line
    assert len(list((tmp_path / "out" / "made" / "lar").rglob("*.png"))) == 80


def test_a_single_source_has_nothing_to_be_compared_with(folders: Path) -> None:
    options = argparse.Namespace(
        synthetic=[f"naive={folders / 'naive'}"],
        bank=None,
        real="x",
        out=str(folders),
        models=None,
        aux=False,
    )
    with pytest.raises(ConfigError, match="at least two sources, the naive one first"):
        grid_config(options)


def test_conclusions_are_about_the_largest_amount(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    cells = {
        "real/both": [0.4] * 5,
        "add:1@naive/updates": [0.5] * 5,
        "add:3@naive/updates": [0.5] * 5,
        "add:1@diverse/updates": [0.5] * 5,
        "add:3@diverse/updates": [0.8] * 5,
    }
    (line,) = conclusions(read_grid(make_grid(tmp_path / "grid", cells)))
    assert line.startswith("the small CNN: add:3@diverse against add:3@naive: +")
    assert line.endswith(": better")

"""Input that makes no grid, or another one: wrong folders, leaks, labels, weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client.folder.run_folder import RunFolder
from trainer.config import GridConfig
from trainer.errors import ConfigError, DataError, WeightsError
from trainer.grid.grid import run_grid


def test_nothing_is_written_when_the_input_is_wrong(config: GridConfig, real: Path) -> None:
    with pytest.raises(DataError, match="needs 30"):
        run_grid(replace(config, ratios=(0.0, 5.0)))
    with pytest.raises(WeightsError, match="--allow-untrained"):
        run_grid(replace(config, models=("resnet50",)))
    assert not Path(config.out).exists()


def test_an_undecodable_image_ends_the_grid_with_its_name(config: GridConfig, real: Path) -> None:
    (real / "test" / "circle" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n rest is gone")
    with pytest.raises(DataError, match=r"003\.png is not a whole image"):
        run_grid(config)


def test_a_folder_that_a_client_is_writing_makes_no_grid(config: GridConfig) -> None:
    with (
        RunFolder(Path(str(config.synthetic)), None).locked(),
        pytest.raises(DataError, match="still writing"),
    ):
        run_grid(config)
    assert not Path(config.out).exists()


def test_leaks_are_listed_and_left_out_on_demand(config: GridConfig, tmp_path: Path) -> None:
    """Pictures of noise, which are never alike by chance, and one test image among the synthetic
    ones."""
    random = np.random.RandomState(0)
    for part, count in (("real/train", 3), ("real/test", 3), ("made", 4)):
        for label in ("a", "b"):
            (tmp_path / "noise" / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 256, (40, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "noise" / part / label / f"{number}.png")
    shutil.copy(
        tmp_path / "noise" / "real" / "test" / "a" / "1.png",
        tmp_path / "noise" / "made" / "a" / "stolen.png",
    )
    folders = {
        "real": str(tmp_path / "noise" / "real"),
        "synthetic": str(tmp_path / "noise" / "made"),
    }
    whole = replace(config, **folders, ratios=(0.0, 1.0))
    kept, dropped = (
        run_grid(replace(whole, out=str(tmp_path / name), drop_leaks=name == "dropped"))
        for name in ("kept", "dropped")
    )
    for grid, images in ((kept, [5, 4]), (dropped, [4, 4])):
        assert grid.info["leaks"]["dropped"] == (grid is dropped)
        assert grid.info["images_per_class"]["synthetic"] == images
        assert grid.info["leaks"]["test_images"] == 1
        (pair,) = grid.info["leaks"]["pairs"]
        assert (pair["kind"], pair["kept"]["file"], pair["dropped"]["file"]) == (
            "bytes",
            "a/1.png",
            "a/stolen.png",
        )


def noise_folders(root: Path) -> dict[str, str]:
    """Ten training images of two classes, as many to test on, and ten synthetic ones of which one
    is a test image."""
    random = np.random.RandomState(0)
    for part in ("real/train", "real/test", "made"):
        for label in ("a", "b"):
            (root / part / label).mkdir(parents=True)
            for number in range(10):
                pixels = random.randint(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{number}.png")
    shutil.copy(root / "real/test/a/1.png", root / "made/a/1.png")
    return {"real": str(root / "real"), "synthetic": str(root / "made")}


def test_a_few_dropped_leaks_cap_an_arm_and_many_end_the_grid(
    config: GridConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = noise_folders(tmp_path / "noise")
    asked = replace(config, **folders, ratios=(0.0, 1.0), drop_leaks=True, updates=1)
    grid = run_grid(asked)
    assert grid.info["capped"] == [{"arm": "add:1", "label": "a", "wanted": 10, "there": 9}]
    assert {run.arm: run.metrics["synthetic_images"] for run in grid.runs} == {
        "real": 0,
        "add:1": 19,
    }
    assert "arm add:1 gets fewer images than it asks for in 1 classes: 9 instead of 10 of 'a'" in (
        caplog.text
    )
    shutil.copy(tmp_path / "noise/real/test/a/2.png", tmp_path / "noise/made/a/2.png")
    with pytest.raises(DataError, match=r"'a' has 8, needs 10; .*--cap-amounts"):
        run_grid(asked)
    again = run_grid(replace(asked, cap_amounts=True))
    assert [each["there"] for each in again.info["capped"]] == [8]


def test_one_file_under_two_labels_is_warned_of_and_kept_in_grid_json(
    config: GridConfig, real: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(real / "train/circle/000.png", real / "train/cross/again.png")
    grid = run_grid(replace(config, ratios=(0.0,), updates=1))
    assert "1 files occur under two labels" in caplog.text
    assert "train/circle/000.png = train/cross/again.png" in caplog.text
    ((one, other),) = grid.info["leaks"]["two_labels"]
    assert (one["label"], other["label"]) == ("circle", "cross")


def test_weights_that_do_not_fit_are_found_before_the_images_are_searched(
    config: GridConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    monkeypatch.setattr("trainer.grid.grid.remembered_leaks", lambda *_: pytest.fail("searched"))
    tiny = "timm:test_resnet.r160_in1k"
    with pytest.raises(WeightsError, match=r"other\.pth does not fit timm:test_resnet"):
        run_grid(replace(config, models=(tiny,), weights=str(tmp_path / "other.pth")))


@pytest.mark.parametrize("inside", ["real/train", "real/test/circle", "synthetic/runs", "real"])
def test_a_grid_is_not_written_among_images(
    config: GridConfig, tmp_path: Path, inside: str
) -> None:
    with pytest.raises(ConfigError, match=r"is among the images of .*choose a folder outside"):
        run_grid(replace(config, out=str(tmp_path / inside)))
    assert not (tmp_path / inside / "grid.json").exists()


def test_class_folders_that_are_not_split_say_how_to(config: GridConfig) -> None:
    with pytest.raises(
        DataError, match=r"has no train and test folders; .* synthgrid split --images"
    ):
        run_grid(replace(config, real=str(config.synthetic)))

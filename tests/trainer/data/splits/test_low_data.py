"""Splits with fewer and fewer training images: nested, with one test set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.__main__ import main
from trainer.data.splits.low_data import write_low_data
from trainer.data.splits.split import SplitConfig, write_split
from trainer.errors import ConfigError, DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 20 different images."""
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            random = np.random.RandomState(number + 100 * (label == "dog"))
            pixels = random.randint(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number:02d}.png")
    return tmp_path / "images"


def config(images: Path, name: str = "low", **options: object) -> SplitConfig:
    values = {"images": str(images), "out": str(images.parent / name), "test": 6, **options}
    return SplitConfig(**values)  # type: ignore[arg-type]


def files(root: Path, part: str) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / part).rglob("*.png")}


def test_smaller_ones_are_in_larger_ones_and_all_are_tested_on_the_same_images(
    images: Path,
) -> None:
    found = write_low_data(config(images), (5, 1, 10))
    out = images.parent / "low"
    assert list(found) == [1, 5, 10]
    assert sorted(each.name for each in out.iterdir()) == ["1", "10", "5"]
    sets = [files(out / name, "train") for name in ("1", "5", "10")]
    assert [len(each) for each in sets] == [2, 10, 20]
    assert sets[0] < sets[1] < sets[2]
    assert len({frozenset(files(out / name, "test")) for name in ("1", "5", "10")}) == 1


def test_each_folder_is_the_split_with_as_many_training_images(images: Path) -> None:
    write_low_data(config(images, val=2), (3, 8))
    write_split(config(images, "plain", val=2, train=8))
    write_split(config(images, "few", train=3))
    low = images.parent / "low"
    for part in ("train", "test", "val"):
        assert files(low / "8", part) == files(images.parent / "plain", part)
    assert files(low / "3", "train") == files(images.parent / "few", "train")
    stored = json.loads((low / "3" / "split.json").read_text(encoding="utf-8"))
    assert (stored["config"]["train"], stored["left_out"]) == (3, 40 - 2 * (3 + 6 + 2))


@pytest.mark.parametrize("counts", [(), (0, 5), (5, 5)])
def test_numbers_that_are_none_are_refused(images: Path, counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="expected different whole numbers of at least 1"):
        write_low_data(config(images), counts)


def test_all_or_nothing_is_written(images: Path) -> None:
    with pytest.raises(DataError, match="too few images for 15 train"):
        write_low_data(config(images), (1, 15))
    with pytest.raises(ConfigError, match="choose one"):
        write_low_data(config(images, long_tail=10.0), (1, 5))
    assert [each.name for each in images.parent.iterdir()] == ["images"]


def test_the_command_writes_them_and_says_so(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = images.parent / "low"
    wanted = ["split", "--images", str(images), "--out", str(out), "--test", "4"]
    assert main([*wanted, "--low-data", "1,5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{out / '1'}: 2 train, 8 test images of 2 classes; 30 of 40 left out"
    assert said[1].startswith(f"{out / '5'}: 10 train")
    assert main([*wanted, "--low-data", "1,5", "--train", "7"]) == 1
    assert "--train and --low-data both say" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*wanted, "--low-data", "1,inf"])
    assert "expected whole numbers, as in 1,5,10" in capsys.readouterr().err

"""Controls: the images that are made for them, and what is said about their grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.errors import DataError
from trainer.experiments.controls import conclusions, main, make_images
from trainer.runs import read_grid


@pytest.fixture
def real(tmp_path: Path, make_shapes: Callable[..., Path]) -> Path:
    make_shapes(tmp_path / "real" / "train", per_class=13, seed=1)
    make_shapes(tmp_path / "real" / "test", per_class=4, seed=2)
    return tmp_path / "real"


def contents(folder: Path) -> dict[str, set[bytes]]:
    return {path.name: {each.read_bytes() for each in path.iterdir()} for path in folder.iterdir()}


def test_a_third_gets_wrong_labels_and_no_other_arm_sees_it(real: Path, tmp_path: Path) -> None:
    out = tmp_path / "images"
    make_images(real, out, per_class=4)
    train, made = contents(out / "real" / "train"), contents(out / "shuffled")
    original = contents(real / "train")
    for label in original:
        assert len(train[label]) == 9
        assert train[label] < original[label]
        assert not made[label] & original[label]
    assert sum(map(len, made.values())) == 12
    assert set().union(*made.values()) == set().union(*original.values()) - set().union(
        *train.values()
    )
    assert contents(out / "real" / "test") == contents(real / "test")


def test_noise_is_alike_for_all_classes(real: Path, tmp_path: Path) -> None:
    make_images(real, tmp_path / "images", per_class=4)
    for folder in (tmp_path / "images" / "noise").iterdir():
        pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
        assert len(pixels) == 4
        assert pixels.mean() == pytest.approx(127.5, abs=2)
        assert pixels.std() == pytest.approx(73.9, abs=2)


def test_making_them_again_changes_nothing(real: Path, tmp_path: Path) -> None:
    out = tmp_path / "images"
    make_images(real, out, per_class=4)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    make_images(real, out, per_class=4)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_too_few_images_are_refused(real: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"13 training images; --per-class 5 needs 15"):
        make_images(real, tmp_path / "images", per_class=5)


def test_conclusions_say_what_is_as_expected(tmp_path: Path, make_grid: Callable) -> None:
    cells: dict[str, Any] = {
        "real/both": [0.5] * 5,
        "add:1@shuffled/updates": [0.3] * 5,
        "add:1@noise/updates": [0.8] * 5,
        "more:1/updates": [0.7] * 5,
        "add:1/updates": [0.5] * 5,
    }
    found = conclusions(read_grid(make_grid(tmp_path / "grid", cells)))
    assert len(found) == 3
    for line, (start, end) in zip(
        found,
        [
            ("the small CNN: shuffled labels must hurt: −", ": as expected"),
            ("the small CNN: noise must not help: +", ": NOT as expected"),
            ("the small CNN: held-out real images must help: +", ": as expected"),
        ],
        strict=True,
    ):
        assert line.startswith(start)
        assert line.endswith(end)


def test_it_runs_from_one_command(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--real", str(real), "--out", str(tmp_path / "runs"), "--quick", "--updates", "2"]
    assert main([*arguments, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("not tested") == 3
    assert main(["--real", str(real), "--out", str(real)]) == 1

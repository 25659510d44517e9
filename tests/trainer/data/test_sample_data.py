"""The real digits of the demo: a fixed split, plain folders, and nothing ever overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from comfy_nodes.errors import SynthGridError
from trainer.data.sample_data import LABELS, split_digits, write_sample_data
from trainer.errors import DataError

# The generator learnt from all others, so this split can never change.
FIRST_ZEROS = [179, 1157, 441, 595, 487]
FIRST_TEST_NINES = [293, 119, 1392, 167, 635]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_writes_class_folders_with_as_many_images_as_asked_for(tmp_path: Path) -> None:
    summary = write_sample_data(tmp_path / "digits", train_per_class=3, test_per_class=2)
    assert (summary.train_total, summary.test_total, summary.set_aside_total) == (30, 20, 0)
    for part, count in (("train", 3), ("test", 2)):
        folders = sorted(path.name for path in (tmp_path / "digits" / part).iterdir())
        assert folders == list(LABELS)
        assert all(
            len(list((tmp_path / "digits" / part / label).glob("*.png"))) == count
            for label in LABELS
        )


def test_images_are_dark_on_white_and_their_names_carry_the_index_of_the_digit(
    tmp_path: Path,
) -> None:
    write_sample_data(tmp_path, train_per_class=2, test_per_class=1)
    digits = load_digits()
    for path in (tmp_path / "train").rglob("*.png"):
        index = int(path.stem.removeprefix("digit-"))
        assert str(digits.target[index]) == path.parent.name
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (64, 64))
            cells = 255 - np.asarray(image.convert("L"), dtype=float).reshape(8, 8, 8, 8).mean(
                axis=(1, 3)
            )
        assert np.corrcoef(cells.ravel(), digits.images[index].ravel())[0, 1] > 0.95


def test_fewer_images_are_a_subset_of_more(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "few", train_per_class=5, test_per_class=5)
    write_sample_data(tmp_path / "many", train_per_class=30, test_per_class=30)
    for part in ("train", "test"):
        assert names(tmp_path / "few" / part) < names(tmp_path / "many" / part)


def test_every_digit_is_in_exactly_one_part_whatever_the_counts() -> None:
    split = split_digits()
    parts = [split.train, split.test, split.set_aside]
    everything = [index for part in parts for indices in part.values() for index in indices]
    assert sorted(everything) == list(range(1797))
    assert {len(indices) for part in parts[:2] for indices in part.values()} == {30}
    assert sum(len(indices) for indices in split.set_aside.values()) == 1197


def test_the_split_is_the_one_that_the_committed_checkpoint_was_trained_beside() -> None:
    assert split_digits().train["0"][:5] == FIRST_ZEROS
    assert split_digits().test["9"][:5] == FIRST_TEST_NINES


def test_set_aside_images_share_no_pixels_with_the_demo(tmp_path: Path) -> None:
    summary = write_sample_data(
        tmp_path / "digits", train_per_class=30, test_per_class=30, set_aside=tmp_path / "set-aside"
    )
    assert summary.set_aside_total == len(names(tmp_path / "set-aside")) == 1197
    demo, aside = (
        {np.asarray(Image.open(path)).tobytes() for path in folder.rglob("*.png")}
        for folder in (tmp_path / "digits", tmp_path / "set-aside")
    )
    assert not demo & aside


@pytest.mark.parametrize("count", [0, -1, 31])
def test_a_count_outside_1_to_30_is_refused_before_anything_is_written(
    tmp_path: Path, count: int
) -> None:
    with pytest.raises(DataError, match="test_per_class") as refusal:
        write_sample_data(tmp_path / "digits", train_per_class=5, test_per_class=count)
    assert "30" in str(refusal.value)
    assert isinstance(refusal.value, SynthGridError)
    assert not (tmp_path / "digits").exists()


def test_running_again_with_the_same_counts_changes_nothing(tmp_path: Path) -> None:
    write_sample_data(tmp_path, train_per_class=2, test_per_class=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    write_sample_data(tmp_path, train_per_class=2, test_per_class=2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before


def test_other_counts_over_an_existing_folder_are_refused_and_nothing_is_touched(
    tmp_path: Path,
) -> None:
    write_sample_data(tmp_path, train_per_class=2, test_per_class=2)
    before = names(tmp_path)
    with pytest.raises(DataError, match="choose another folder with --out"):
        write_sample_data(
            tmp_path, train_per_class=3, test_per_class=2, set_aside=tmp_path / "aside"
        )
    assert names(tmp_path) == before


def test_a_changed_image_is_refused_rather_than_overwritten(tmp_path: Path) -> None:
    write_sample_data(tmp_path, train_per_class=1, test_per_class=1)
    changed = next((tmp_path / "train" / "4").glob("*.png"))
    Image.new("RGB", (64, 64), "red").save(changed)
    with pytest.raises(DataError, match=changed.name):
        write_sample_data(tmp_path, train_per_class=1, test_per_class=1)
    assert Image.open(changed).getpixel((0, 0)) == (255, 0, 0)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "train" / "0").mkdir(parents=True)
    write_sample_data(tmp_path, train_per_class=1, test_per_class=1)
    assert len(names(tmp_path / "train")) == 10


def test_no_partial_folder_is_left_behind(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "digits", train_per_class=1, test_per_class=1)
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == ["test", "train"]

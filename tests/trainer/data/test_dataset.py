"""Folders to samples; the images of a cell."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainer.data.dataset import Dataset, load_dataset
from trainer.data.images import read_image
from trainer.errors import DataError


def files(samples: object) -> list[str]:
    return [sample.file for sample in samples]  # type: ignore[attr-defined]


@pytest.fixture
def dataset(real: Path, synthetic: Path) -> Dataset:
    return load_dataset(real, synthetic)


def test_samples_are_sorted_and_labelled_by_folder(dataset: Dataset) -> None:
    assert dataset.classes == ("circle", "cross", "square")
    assert files(dataset.train)[:2] == ["circle/000.png", "circle/001.png"]
    assert Counter(sample.label for sample in dataset.test) == {
        "circle": 5,
        "cross": 5,
        "square": 5,
    }


def test_fingerprints_do_not_depend_on_where_the_folder_is(
    real: Path, synthetic: Path, tmp_path: Path
) -> None:
    before = load_dataset(real, synthetic).fingerprints()
    shutil.copytree(real, tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "elsewhere", synthetic).fingerprints() == before
    Image.new("RGB", (48, 48)).save(real / "test" / "cross" / "000.png")
    after = load_dataset(real, synthetic).fingerprints()
    assert after["test"] != before["test"]
    assert after["train"] == before["train"]


def test_labels_in_records_match_real_folders_verbatim_or_by_folder_name(
    tmp_path: Path, make_labelled: Callable[..., Path]
) -> None:
    """ "a/b" and "CON" cannot be folders; their safe names are. Chinese can."""
    picture = Image.new("RGB", (40, 40))
    for part in ("train", "test"):
        for number, name in enumerate(("a_b", "_CON", "猫")):
            (tmp_path / "real" / part / name).mkdir(parents=True)
            for copy in range(2):
                Image.new("RGB", (40, 40), (number, copy, 7)).save(
                    tmp_path / "real" / part / name / f"{copy}.png"
                )
    made = make_labelled(tmp_path / "made", {"a/b": [picture], "CON": [picture], "猫": [picture]})
    dataset = load_dataset(tmp_path / "real", made)
    assert sorted(sample.label for sample in dataset.synthetic) == ["_CON", "a_b", "猫"]


def test_train_and_test_classes_that_differ_are_listed_both_ways(real: Path) -> None:
    (real / "test" / "cross").rename(real / "test" / "star")
    with pytest.raises(DataError, match=r"only in .*train: 'cross'; only in .*test: 'star'"):
        load_dataset(real, None)


def test_synthetic_classes_that_do_not_match_are_listed_both_ways(
    real: Path, synthetic: Path
) -> None:
    (synthetic / "cross").rename(synthetic / "star")
    with pytest.raises(
        DataError, match=r"only in the real images: 'cross'; only in .*synthetic: 'star'"
    ):
        load_dataset(real, synthetic)


def test_a_class_without_any_synthetic_image_is_named_with_what_to_do(
    real: Path, synthetic: Path
) -> None:
    shutil.rmtree(synthetic / "cross")
    with pytest.raises(
        DataError, match=r"synthetic has no images of these classes: 'cross'; add some, or leave"
    ):
        load_dataset(real, synthetic)


def test_one_class_is_too_few(real: Path) -> None:
    for part in ("train", "test"):
        for label in ("circle", "cross"):
            shutil.rmtree(real / part / label)
    with pytest.raises(DataError, match="has one class, 'square'"):
        load_dataset(real, None)


def test_several_sources_and_further_real_images_keep_their_names(
    real: Path, synthetic: Path, tmp_path: Path, make_shapes: Callable[..., Path]
) -> None:
    """Further images may lie in the folder that training and test images were taken from."""
    for part in ("train", "test"):
        for path in (real / part).rglob("*.png"):
            target = tmp_path / "all" / path.parent.name / f"{part}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    make_shapes(tmp_path / "all", per_class=4, seed=8)
    second = make_shapes(tmp_path / "second", per_class=2, seed=9)
    dataset = load_dataset(real, {"a": synthetic, "b": second}, more=tmp_path / "all")
    assert dataset.sources == ("a", "b")
    assert Counter(sample.source for sample in dataset.synthetic) == {"a": 36, "b": 6}
    assert Counter(sample.source for sample in dataset.more) == {"more": 12}
    seen = {sample.sha256 for sample in (*dataset.train, *dataset.test)}
    assert not seen & {sample.sha256 for sample in dataset.more}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_an_image_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"cannot read .*a\.png: not a regular file"):
        read_image(tmp_path / "a.png")

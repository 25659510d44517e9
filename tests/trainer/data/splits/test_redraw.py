"""Real images drawn for each seed: from one pool, never from the test images, the same for all
arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.arms import parse_arm
from trainer.data.cells import cell_images
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.splits.redraw import redrawn, resplit
from trainer.errors import DataError


@pytest.fixture
def dataset(
    real: Path, synthetic: Path, tmp_path: Path, make_shapes: Callable[..., Path]
) -> Dataset:
    """Six real images per class to train on, five to test on, and seven more."""
    more = make_shapes(tmp_path / "more", per_class=7, seed=6)
    return load_dataset(real, synthetic, more=more)


def hashes(samples: tuple) -> set[str]:
    return {each.sha256 for each in samples}


def test_a_seed_draws_from_training_and_additional_images_but_never_test_images(
    dataset: Dataset,
) -> None:
    drawn = [redrawn(dataset, 4, seed=seed) for seed in range(40)]
    for each in drawn:
        assert set(Counter(sample.label for sample in each.train).values()) == {4}
        assert set(Counter(sample.label for sample in each.more).values()) == {9}
        assert not hashes(each.train) & hashes(each.more)
        assert (each.test, each.synthetic) == (dataset.test, dataset.synthetic)
    ever = set().union(*(hashes(each.train) for each in drawn))
    assert ever == hashes(dataset.train) | hashes(dataset.more)
    assert len({frozenset(hashes(each.train)) for each in drawn}) == 40


def test_an_image_of_the_pool_says_where_it_is_from(dataset: Dataset) -> None:
    found = redrawn(dataset, 4, seed=1)
    added = hashes(dataset.more)
    for each in (*found.train, *found.more):
        assert each.file.startswith("more/") == (each.sha256 in added)
    assert {each.source for each in found.train} == {"real"}
    assert {each.source for each in found.more} == {"more"}


def test_all_arms_of_a_seed_share_the_draw_and_more_takes_from_the_rest(dataset: Dataset) -> None:
    images = redrawn(dataset, 4, seed=3)
    cells = {
        name: cell_images(images, arm=parse_arm(name), seed=3, validation_share=0.0)
        for name in ("real", "add:1", "more:2")
    }
    assert cells["real"].real == cells["add:1"].real == cells["more:2"].real == images.train
    added = {each.sha256 for each in cells["more:2"].train if each.source == "more"}
    assert len(added) == 24
    assert added <= hashes(images.more)


def test_a_larger_draw_contains_the_smaller_one(dataset: Dataset) -> None:
    few, many = (redrawn(dataset, count, seed=5) for count in (3, 8))
    assert hashes(few.train) < hashes(many.train)


def test_more_than_there_are_is_refused_with_the_class_and_the_way_out(dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"--redraw 14 .*'circle'.*fewest: 13.*--more-real"):
        redrawn(dataset, 14, seed=0)
    assert len(redrawn(dataset, 13, seed=0).train) == 39


def test_each_seed_splits_one_folder_anew(tmp_path: Path, make_shapes: Callable[..., Path]) -> None:
    dataset = load_dataset(make_shapes(tmp_path / "all", per_class=10, seed=1), None, split=False)
    splits = [resplit(dataset, 0.25, seed=seed) for seed in range(30)]
    for each in splits:
        assert set(Counter(sample.label for sample in each.train).values()) == {7}
        assert set(Counter(sample.label for sample in each.test).values()) == {3}
        assert hashes(each.train) | hashes(each.test) == hashes(dataset.train)
        assert not hashes(each.train) & hashes(each.test)
    assert set().union(*(hashes(each.test) for each in splits)) == hashes(dataset.train)
    assert len({frozenset(hashes(each.test)) for each in splits}) == 30
    with pytest.raises(DataError, match=r"10 images, of which --test-share 0.01 tests on 0"):
        resplit(dataset, 0.01, seed=0)


def test_identical_files_of_one_folder_are_one_image(
    tmp_path: Path, make_shapes: Callable[..., Path]
) -> None:
    """They could be trained and tested on in the same split."""
    root = make_shapes(tmp_path / "all", per_class=4, seed=1)
    (root / "circle" / "copy.png").write_bytes((root / "circle" / "000.png").read_bytes())
    found = load_dataset(root, None, split=False)
    assert len(found.train) == 12
    assert "circle/copy.png" not in {each.file for each in found.train}


def test_a_folder_that_is_split_already_is_not_split_anew(real: Path) -> None:
    with pytest.raises(DataError, match="split already; leave --test-share out"):
        load_dataset(real, None, split=False)

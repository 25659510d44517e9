"""What is held out for validation or as a fold never shares a group with what is trained on.

Covers: trainer.data.group_table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from trainer.arms import parse_arm
from trainer.data.cells import cell_images, check_counts
from trainer.data.copies import copies_of
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.samples import Sample
from trainer.data.splits.folds import fold_splits, group_numbers, group_of, hold_out
from trainer.errors import DataError


def sample(label: str, number: int, group: str = "") -> Sample:
    return Sample(Path("x"), f"{label}/{number}.png", label, f"{label}{number}", group=group)


def videos(*, per_class: int = 12, frames: int = 3) -> list[Sample]:
    """Two classes of short videos."""
    return [
        sample(label, number, f"{label}-clip{number // frames}")
        for label in ("a", "b")
        for number in range(per_class)
    ]


def test_without_groups_the_folds_are_those_of_earlier_versions() -> None:
    samples = [replace(each, group="") for each in videos()]
    labels = [each.label for each in samples]
    expected = StratifiedKFold(3, shuffle=True, random_state=7).split(labels, labels)
    for ours, theirs in zip(fold_splits(samples, 3, seed=7), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_folds_cut_no_group_and_hold_every_image_out_once(seed: int) -> None:
    samples = videos()
    held_once: Counter[int] = Counter()
    for train, held in fold_splits(samples, 4, seed=seed):
        groups = [{samples[row].group for row in part} for part in (train, held)]
        assert not groups[0] & groups[1]
        assert {samples[row].label for row in train} == {"a", "b"}
        held_once.update(held.tolist())
    assert held_once == Counter(range(len(samples)))


def test_copies_of_an_image_and_images_of_a_group_have_one_number() -> None:
    one, two = replace(sample("a", 1), path=Path("1")), replace(sample("a", 2), path=Path("2"))
    clip = [sample("a", number, "clip") for number in (3, 4)]
    found = group_numbers([one, two, *clip, *copies_of([one, two], 3)])
    assert found == [0, 1, 2, 2, 0, 1, 0]


def test_fewer_groups_than_folds_are_named() -> None:
    with pytest.raises(DataError, match="class 'a' has 2 groups of training images for 3 folds"):
        fold_splits(videos(per_class=6), 3, seed=0)


def test_as_many_whole_groups_are_held_out_as_fit() -> None:
    samples = [sample("a", number, "big") for number in range(4)]
    samples += [sample("a", number, f"pair{number // 2}") for number in range(4, 10)]
    held = hold_out({"a": samples}, lambda count: 3)["a"]
    assert Counter(each.group for each in held) == {"pair2": 2}
    whole = hold_out({"a": samples}, lambda count: 4)["a"]
    assert Counter(each.group for each in whole) == {"big": 4}


def test_if_no_group_is_small_enough_the_smallest_is_held_out() -> None:
    samples = [sample("a", number, "five" if number < 5 else "four") for number in range(9)]
    assert {each.group for each in hold_out({"a": samples}, lambda count: 2)["a"]} == {"four"}


def test_a_group_in_two_classes_is_held_out_in_both_or_in_neither() -> None:
    ordered = {
        label: [sample(label, number, "both" if number < 2 else "") for number in range(6)]
        for label in ("a", "b")
    }
    for classes in (ordered, {label: each[::-1] for label, each in ordered.items()}):
        held = hold_out(classes, lambda count: 2)
        assert len({"both" in {each.group for each in held[label]} for label in held}) == 1
        assert all(held.values())


def test_a_class_of_one_group_cannot_be_validated() -> None:
    with pytest.raises(DataError, match=r"class 'a' are in 1 groups .* groups\.csv"):
        hold_out({"a": [sample("a", number, "one") for number in range(4)]}, lambda count: 1)


@pytest.fixture
def grouped(real: Path, synthetic: Path) -> Dataset:
    """Six training images of each class, in three pairs of look-alikes."""
    lines = ["image,group"]
    for label in ("circle", "cross", "square"):
        lines += [f"train/{label}/{number:03d}.png,{label}{number // 2}" for number in range(6)]
    (real / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    return load_dataset(real, synthetic)


@pytest.mark.parametrize("arm", ["real", "add:1", "swap:1", "fewer:0.5", "copies:1"])
def test_a_cell_validates_on_whole_groups(grouped: Dataset, arm: str) -> None:
    assert check_counts(grouped, [parse_arm(arm)], validation_share=0.2) == ()
    for seed in range(4):
        images = cell_images(grouped, arm=parse_arm(arm), seed=seed, validation_share=0.2)
        held = {group_of(each) for each in images.validation}
        assert not held & {each.group for each in images.train}
        assert Counter(each.label for each in images.validation) == {
            "circle": 2,
            "cross": 2,
            "square": 2,
        }


def test_a_swap_is_checked_for_the_fewest_images_that_may_be_held_out(
    real: Path, tmp_path: Path, make_shapes: Callable[..., Path], grouped: Dataset
) -> None:
    few = load_dataset(real, make_shapes(tmp_path / "few", per_class=4, seed=9))
    with pytest.raises(DataError, match="needs 5"):
        check_counts(few, [parse_arm("swap:1")], validation_share=0.2)


def test_groups_that_name_no_image_or_are_no_table_are_told(
    real: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (real / "groups.csv").write_text("image,group\nelsewhere.png,1\n", encoding="utf-8")
    assert not any(each.group for each in load_dataset(real, None).train)
    assert "names none of the training images; expected names such as train/" in caplog.text
    (real / "groups.csv").write_text("name,clip\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected the columns image and group"):
        load_dataset(real, None)

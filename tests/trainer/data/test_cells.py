"""The images of a cell: counted beforehand, paired by seed, and never a validation image trained
on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.arms import parse_arm
from trainer.data.cells import CellImages, cell_images, check_counts, held_out, share_of
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.samples import Sample
from trainer.errors import ConfigError, DataError

ALL_ARMS = (
    "real",
    "add:0.5",
    "add:1",
    "add:2",
    "swap:0.5",
    "swap:1",
    "fewer:0.5",
    "only:1",
    "augment",
    "copies:1",
    "more:1",
    "add:1@syn2",
    "add:2@syn1+syn2",
)
SHARE = 0.2


@pytest.fixture
def dataset(
    real: Path, synthetic: Path, tmp_path: Path, make_shapes: Callable[..., Path]
) -> Dataset:
    """Six real images per class (five to train on), 12 and 8 synthetic ones, 7 additional real
    ones."""
    sources = {"syn1": synthetic, "syn2": make_shapes(tmp_path / "syn2", per_class=8, seed=5)}
    return load_dataset(real, sources, more=make_shapes(tmp_path / "more", per_class=7, seed=6))


def cell(dataset: Dataset, arm: str, *, seed: int = 0) -> CellImages:
    return cell_images(dataset, arm=parse_arm(arm), seed=seed, validation_share=SHARE)


def per_class(images: CellImages, source: str) -> set[int]:
    return set(Counter(each.label for each in images.train if each.source == source).values()) or {
        0
    }


@pytest.mark.parametrize(
    ("arm", "counts"),
    [
        ("real", {"real": 5}),
        ("augment", {"real": 5}),
        ("add:0.5", {"real": 5, "syn1": 3}),
        ("add:2", {"real": 5, "syn1": 12}),
        ("swap:0.5", {"real": 3, "syn1": 2}),
        ("swap:1", {"syn1": 5}),
        ("fewer:0.5", {"real": 3}),
        ("only:1", {"syn1": 6}),
        ("copies:1", {"real": 5, "copy": 6}),
        ("more:1", {"real": 5, "more": 6}),
        ("add:1@syn2", {"real": 5, "syn2": 6}),
        ("add:2@syn1+syn2", {"real": 5, "syn1": 6, "syn2": 6}),
        ("add:3@syn1+syn2", {"real": 5, "syn1": 10, "syn2": 8}),  # one runs out, the other goes on
    ],
)
def test_an_arm_has_its_number_of_images_in_every_class(
    dataset: Dataset, arm: str, counts: dict[str, int]
) -> None:
    check_counts(dataset, [parse_arm(arm)], validation_share=SHARE)
    images = cell(dataset, arm)
    found = {
        source: per_class(images, source) for source in ("real", "copy", "more", "syn1", "syn2")
    }
    assert found == {source: {counts.get(source, 0)} for source in found}
    assert len(images.real) == 3 * counts.get("real", 0)
    assert len(images.synthetic) == 3 * (counts.get("syn1", 0) + counts.get("syn2", 0))


@pytest.mark.parametrize("arm", ALL_ARMS)
@pytest.mark.parametrize("seed", [0, 4])
def test_validation_is_real_the_same_in_every_arm_and_never_trained_or_tested_on(
    dataset: Dataset, arm: str, seed: int
) -> None:
    images = cell(dataset, arm, seed=seed)
    held = {sample.path for sample in images.validation}
    assert images.validation == cell(dataset, "real", seed=seed).validation
    assert Counter(sample.label for sample in images.validation) == {
        "circle": 1,
        "cross": 1,
        "square": 1,
    }
    assert held <= {sample.path for sample in dataset.train}
    # Of copies, the path is the original's.
    assert not held & {sample.path for sample in (*images.train, *images.test)}
    assert not {sample.path for sample in images.train} & {sample.path for sample in images.test}
    assert images.test == dataset.test
    assert len({sample.sha256 for sample in images.train}) == len(images.train)


def test_without_a_share_for_validation_every_real_image_is_trained_on(dataset: Dataset) -> None:
    found = cell_images(dataset, arm=parse_arm("add:1"), seed=0, validation_share=0.0)
    assert found.validation == ()
    assert per_class(found, "real") == {6}
    assert per_class(found, "syn1") == {6}


def test_balance_fills_every_class_up_to_the_largest_with_synthetic_images(
    dataset: Dataset, real: Path, synthetic: Path
) -> None:
    with pytest.raises(DataError, match="arm balance has nothing to fill"):
        check_counts(dataset, [parse_arm("balance")], validation_share=SHARE)
    for path in sorted((real / "train" / "cross").iterdir())[2:]:
        path.unlink()
    short = load_dataset(real, {"syn1": synthetic})
    check_counts(short, [parse_arm("balance")], validation_share=0.0)
    found = cell_images(short, arm=parse_arm("balance"), seed=0, validation_share=0.0)
    assert Counter(each.label for each in found.train) == {"circle": 6, "cross": 6, "square": 6}
    assert Counter(each.label for each in found.synthetic) == {"cross": 4}


def test_fill_tops_every_class_up_to_a_number_and_leaves_larger_ones_alone(
    dataset: Dataset, real: Path, synthetic: Path
) -> None:
    with pytest.raises(DataError, match="arm fill:6 adds no image to any class"):
        check_counts(dataset, [parse_arm("fill:6")], validation_share=0.0)
    for path in sorted((real / "train" / "cross").iterdir())[2:]:
        path.unlink()
    short = load_dataset(real, {"syn1": synthetic})
    for number, added in ((5, {"cross": 3}), (8, {"circle": 2, "cross": 6, "square": 2})):
        arm = parse_arm(f"fill:{number}")
        check_counts(short, [arm], validation_share=0.0)
        found = cell_images(short, arm=arm, seed=0, validation_share=0.0)
        assert Counter(each.label for each in found.synthetic) == added
        assert len(found.real) == 14


def test_seeds_differ_in_everything_they_draw(dataset: Dataset) -> None:
    for arm in ("real", "add:1", "fewer:0.5", "copies:1", "more:0.5"):
        assert len({cell(dataset, arm, seed=seed).fingerprint for seed in range(5)}) > 3, arm


@pytest.mark.parametrize("regime", ["add", "only", "copies", "more"])
def test_draws_are_nested_over_amounts(dataset: Dataset, regime: str) -> None:
    small, large = (cell(dataset, f"{regime}:{amount}") for amount in (0.5, 1))
    assert set(small.train) < set(large.train)
    assert small.real == large.real


def test_arms_of_one_seed_are_paired(dataset: Dataset) -> None:
    assert set(cell(dataset, "only:1").train) == set(cell(dataset, "add:1").synthetic)
    assert set(cell(dataset, "swap:0.5").real) == set(cell(dataset, "fewer:0.5").train)
    assert set(cell(dataset, "swap:0.5").synthetic) < set(cell(dataset, "add:1").synthetic)
    assert set(cell(dataset, "fewer:0.4").train) < set(cell(dataset, "fewer:0.8").train)
    both = set(cell(dataset, "add:2@syn1+syn2").synthetic)
    assert both == set(cell(dataset, "add:1@syn1").synthetic) | set(
        cell(dataset, "add:1@syn2").synthetic
    )


def test_copies_are_all_different_and_each_image_is_copied_once_before_any_twice(
    dataset: Dataset,
) -> None:
    images = [each for each in cell(dataset, "copies:5.8").train if each.source == "copy"]
    assert Counter(each.label for each in images) == {"circle": 35, "cross": 35, "square": 35}
    assert len({(each.path, each.turn) for each in images}) == len(images)
    once = [each for each in cell(dataset, "copies:0.8").train if each.source == "copy"]
    assert len({each.path for each in once}) == len(once) == 15


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("add:3", "too few synthetic images for arm add:3: 'circle' has 12, needs 18; 'cross'"),
        ("add:1.5@syn2", "'circle' has 8, needs 9"),
        ("only:4@syn1+syn2", "'circle' has 20, needs 24"),
        ("more:2", "too few additional real images for arm more:2: 'circle' has 7, needs 12"),
        ("copies:6", "'circle' has 35, needs 36"),
        ("fewer:0.05", "leaves no image to train on in class 'circle', 'cross', 'square'"),
        ("add:0.05", "adds no image to any class"),
        ("swap:0.05", "adds no image to any class"),
    ],
)
def test_an_arm_that_cannot_be_filled_is_refused_with_the_counts(
    dataset: Dataset, arm: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_counts(dataset, [parse_arm("real"), parse_arm(arm)], validation_share=SHARE)
    assert "\n" not in str(caught.value)


def test_a_source_that_is_not_there_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="'syn3', but the synthetic sources are syn1, syn2"):
        check_counts(dataset, [parse_arm("add:1@syn3")], validation_share=SHARE)


def test_a_single_training_image_is_too_few_to_validate(real: Path, synthetic: Path) -> None:
    for path in sorted((real / "train" / "cross").glob("*.png"))[1:]:
        path.unlink()
    with pytest.raises(DataError, match="'cross' has 1 training images; each needs at least 2"):
        check_counts(load_dataset(real, synthetic), [parse_arm("real")], validation_share=SHARE)


def real_only(**counts: int) -> Dataset:
    """A data set with so many real training images per class, and no files."""
    train = tuple(
        Sample(Path(f"{label}/{number}"), f"{label}/{number}", label, f"{label}{number}")
        for label, count in counts.items()
        for number in range(count)
    )
    return Dataset(tuple(counts), train, (), ())


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 2, "b": 2}, None),
        ({"a": 3, "b": 2}, None),
        ({"a": 2, "b": 1}, r"class 'b' has 1 training images; each needs at least 2"),
        ({"a": 0, "b": 5}, r"class 'a' has 0 training images"),  # all of it was left out as leaks
        ({"a": 9, "b": 1, "c": 0}, r"class 'b', 'c' has 1 training images"),
    ],
)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_two_training_images_of_each_class_are_enough_and_one_is_not(
    counts: dict[str, int], message: str | None, share: float
) -> None:
    dataset, arms = real_only(**counts), [parse_arm("real")]
    if message is None:
        check_counts(dataset, arms, validation_share=share)
        images = cell_images(dataset, arm=arms[0], seed=0, validation_share=share)
        for part in (images.train, images.validation):
            assert {sample.label for sample in part} == set(counts)
    else:
        with pytest.raises(DataError, match=message):
            check_counts(dataset, arms, validation_share=share)


@pytest.mark.parametrize(
    ("real", "share", "expected"),
    [
        (10, 0.2, 2),
        (10, 0.25, 3),  # halves are rounded up
        (7, 0.2, 1),
        (8, 0.2, 2),
        (100, 0.001, 1),  # at least one
        (2, 0.2, 1),
        (2, 0.9, 1),  # and one is left to train on
        (3, 0.9, 2),
        (5, 0.9, 4),
        (20, 0.9, 18),
    ],
)
def test_validation_takes_its_share_but_leaves_an_image_on_both_sides(
    real: int, share: float, expected: int
) -> None:
    assert held_out(real, share) == expected
    images = cell_images(real_only(a=real), arm=parse_arm("real"), seed=0, validation_share=share)
    assert (len(images.validation), len(images.train)) == (expected, real - expected)


@pytest.mark.parametrize(
    ("arm", "train_images", "fits"),
    [("fewer:0.4", 2, False), ("fewer:0.5", 2, True), ("swap:0.5", 2, False), ("real", 2, True)],
)
def test_what_validates_is_not_counted_for_an_arm(arm: str, train_images: int, fits: bool) -> None:
    """Of two real images one validates: 0.4 of the other is none, and half of it is one."""
    dataset, arms = real_only(a=train_images, b=9), [parse_arm(arm)]
    if fits:
        check_counts(dataset, arms, validation_share=SHARE)
    else:
        with pytest.raises((DataError, ConfigError)):
            check_counts(dataset, arms, validation_share=SHARE)


@pytest.mark.parametrize(
    ("amount", "count", "expected"),
    [(0, 5, 0), (1, 5, 5), (0.5, 5, 3), (6, 5, 30), (0.1, 4, 0), (1 - 0.9, 5, 1)],
)
def test_shares_are_rounded_with_halves_up(amount: float, count: int, expected: int) -> None:
    assert share_of(amount, count) == expected


def test_the_baseline_does_not_depend_on_the_synthetic_folder(real: Path, synthetic: Path) -> None:
    before = cell(load_dataset(real, synthetic), "real").fingerprint
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(synthetic / "cross" / "000.png")
    assert cell(load_dataset(real, synthetic), "real").fingerprint == before
    assert cell(load_dataset(real, None), "real").fingerprint == before

"""Every image is judged by heads that did not see it, and the interval of a change holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.quality.embedding.sets import LabelledFeatures
from trainer.quality.estimating.gain import (
    Answers,
    Gain,
    Sampled,
    answers,
    fits,
    gain,
    make_splits,
)

NO_PAIRS = np.zeros((0, 2), np.int64)


def samples(per_class: int, classes: str = "abc", *, group_of: int = 0) -> list[Sample]:
    """With `group_of` g, each g images of a class are one group."""
    return [
        Sample(
            Path("x"),
            f"{label}/{number}",
            label,
            "",
            group=f"{label}{number // group_of}" if group_of else "",
        )
        for label in classes
        for number in range(per_class)
    ]


def test_folds_hold_out_every_image_once_in_each_repeat() -> None:
    splits = make_splits(samples(7), repeats=2, seed=3)
    assert len(splits) == 10
    for repeat in range(2):
        held = np.concatenate([each.held for each in splits if each.repeat == repeat])
        assert sorted(held.tolist()) == list(range(21))
    assert not any(set(each.fit.tolist()) & set(each.held.tolist()) for each in splits)
    assert any(
        not np.array_equal(one.held, two.held)
        for one, two in zip(splits[:5], splits[5:], strict=True)
    )


def test_a_small_class_means_fewer_folds_and_a_single_image_is_refused() -> None:
    assert len(make_splits(samples(3), repeats=1)) == 3
    with pytest.raises(DataError, match="class 'a' has one real training image"):
        make_splits(samples(1), repeats=1)
    with pytest.raises(DataError, match="one group of them"):
        make_splits(samples(4, group_of=4), repeats=1)


def test_splits_that_learn_from_few_judge_by_all_others() -> None:
    real = samples(6)
    splits = make_splits(real, repeats=4, per_class=2)
    assert [each.repeat for each in splits] == [0, 1, 2, 3]
    for each in splits:
        assert [real[row].label for row in each.fit] == list("aabbcc")
        assert len(each.fit) + len(each.held) == 18
    with pytest.raises(DataError, match="too few real training images to learn from 6"):
        make_splits(real, repeats=1, per_class=6)


@pytest.mark.parametrize("per_class", [None, 3])
def test_images_of_a_group_are_never_on_both_sides(per_class: int | None) -> None:
    real = samples(9, group_of=2)
    for split in make_splits(real, repeats=3, per_class=per_class):
        sides = [{real[row].group for row in rows} for rows in (split.fit, split.held)]
        assert not sides[0] & sides[1]


def gaussian(seed: int, per_class: int) -> LabelledFeatures:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    rows = 1.5 * np.eye(3, 6)[labels] + random.normal(size=(len(labels), 6))
    return LabelledFeatures(rows.astype(np.float32), labels)


def test_a_synthetic_image_of_a_real_one_is_not_learned_from_where_that_one_judges() -> None:
    made = gaussian(0, 4)
    sample = Sampled(made, np.array([[0, 5], [1, 5], [4, 0]]))
    for split in make_splits(samples(7), repeats=2):
        usable = set(np.concatenate(sample.orders(split, 3, 0)).tolist())
        held = set(split.held.tolist())
        shown = ({0, 1} if 5 in held else set()) | ({4} if 0 in held else set())
        assert usable == set(range(12)) - shown
    assert sample.most_per_class(make_splits(samples(7), repeats=2), 3) == 2


def test_answers_come_from_heads_that_did_not_see_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels at random: heads that had seen them would know them."""
    monkeypatch.setattr("trainer.quality.estimating.gain._CHOOSING", 1)
    real = gaussian(1, 15)
    random = np.random.default_rng(0)
    real = LabelledFeatures(real.features, random.permutation(real.labels))
    splits = make_splits(samples(15), repeats=2)
    sample = Sampled(gaussian(2, 5), NO_PAIRS)
    counted: list[int] = []
    found = answers(real, sample, splits, [0, 2, 5], classes=3, on_fit=lambda: counted.append(1))
    assert np.nanmean(found[0].correct) < 0.6
    assert len(counted) == fits(splits, [0, 2, 5], 5)
    assert (found[0].halved, found[2].halved, found[5].halved) == (False, True, False)
    assert found[2].correct.shape == (2, 2, 45)
    assert not np.isnan(found[2].correct).any()  # every image judged in every repeat, by both
    assert not np.array_equal(found[2].correct[:, 0], found[2].correct[:, 1])
    assert np.array_equal(found[5].correct[:, 0], found[5].correct[:, 1])


def given(change: np.ndarray, *, k: int = 4, halved: bool = True) -> tuple[Answers, Answers]:
    zero = np.where(np.isnan(change), np.nan, 0.0)
    return Answers(0, zero, False), Answers(k, change, halved)


def test_the_parts_of_the_variance_written_out() -> None:
    change = np.zeros((2, 2, 4))
    change[:, :, 0] = 1.0
    change[:, 0, 1] = 1.0
    found = gain(*given(change, k=4), held=0.2, most=10)
    by_image = np.array([1, 0.5, 0, 0])
    assert found.value == pytest.approx(by_image.mean())
    assert found.from_images == pytest.approx(by_image.var(ddof=1) / 4 * 1.25)
    apart = np.array([0, 1, 0, 0])
    choice = (apart.mean() ** 2 - apart.var(ddof=1) / 4) / 2
    assert found.from_sample == pytest.approx(max(0.0, choice) * 4 / 10, abs=1e-12)
    assert gain(*given(np.zeros((2, 2, 4))), held=0.2, most=10) == Gain(0, 0, 0, 0, 0)


def test_a_k_beyond_half_of_the_sample_takes_the_choice_of_the_largest_within() -> None:
    halves = np.zeros((3, 2, 50))
    halves[:, 0] = 1.0  # all images change together
    before, after = given(np.zeros((3, 2, 50)), k=16, halved=False)
    within = Answers(8, halves, True)
    found = gain(before, after, held=0.2, most=20, halved=within)
    assert found.from_sample == pytest.approx(0.5 * 16**2 / (20 * 8))
    assert gain(before, after, held=0.2, most=20).from_sample == 0


def simulated(
    random: np.random.Generator, *, held: float, k: int, effect: float, repeats: int = 5
) -> Gain:
    """Changes as the model has them: each image's own, each synthetic image's little, the rest. 12
    synthetic images of each class; without folds each repeat has luck of its own."""
    images, sample = 60, 12
    own = effect + 0.25 * random.normal(size=images)
    adds = 0.02 * random.normal(size=sample)
    change = np.full((repeats, 2, images), np.nan)
    for repeat in range(repeats):
        order = random.permutation(sample)
        luck = 0.05 * random.normal() if held > 0.5 else 0.0
        rows = random.random(images) < held if held > 0.5 else np.full(images, True)
        for half in range(2):
            start = half * (sample // 2) if k <= sample // 2 else 0
            chosen = adds[order[start : start + k]].sum()
            noise = 0.3 * random.normal(size=images)
            change[repeat, half, rows] = (own + chosen + luck + noise)[rows]
    within = Answers(k, change, True)
    if k > sample // 2:  # then halves of six tell how much the choice matters
        change[:, 1] = change[:, 0]
        within = Answers(6, np.empty_like(change), True)
        for repeat in range(repeats):
            order = random.permutation(sample)
            for half in range(2):
                chosen = adds[order[6 * half : 6 * half + 6]].sum()
                noise = 0.3 * random.normal(size=images)
                within.correct[repeat, half] = own + chosen + noise
    return gain(*given(change, k=k, halved=k <= 6), held=held, most=sample, halved=within)


@pytest.mark.parametrize(("held", "k"), [(0.2, 2), (0.2, 6), (0.2, 11), (0.9, 4)])
def test_the_interval_holds_the_true_change(held: float, k: int) -> None:
    random = np.random.default_rng(4)
    found = [simulated(random, held=held, k=k, effect=0.1) for _ in range(300)]
    # With 11 of 12 the choice is nearly all of it, measured on halves of the same 12.
    assert np.mean([each.low <= 0.1 <= each.high for each in found]) >= (0.89 if k == 11 else 0.92)
    values = np.array([each.value for each in found])
    claimed = np.mean([each.from_images + each.from_sample for each in found]) ** 0.5
    assert 0.85 < claimed / values.std() < 1.7

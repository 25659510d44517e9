"""Scores and effects of images against scikit-learn, numerical derivatives and resampling."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from trainer.analysis.scores import confusion_counts, metric_effects, one_image

METRICS = ("accuracy", "precision", "recall", "f1", "weighted_precision", "weighted_f1")


def answers(
    random: np.random.RandomState, n: int, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    true = np.sort(random.randint(0, classes, n))
    return true, np.where(random.rand(n) < 0.6, true, random.randint(0, classes, n))


def scores(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: int) -> dict:
    """Each metric with images weighted by `weights` [N]."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, predicted), weights)
    return {name: float(value) for name, (value, _) in metric_effects(counts).items()}


@pytest.mark.parametrize("column", [0, 1])
def test_scores_are_scikit_learns(column: int) -> None:
    true, predicted = answers(np.random.RandomState(1), 60)
    times = (np.ones(60, int), np.random.RandomState(2).randint(0, 4, 60))[column]
    # A fifth class never occurs and is never predicted.
    found = scores(true, predicted, times, 5)
    for prefix, average in (("", "macro"), ("weighted_", "weighted")):
        wanted = precision_recall_fscore_support(
            np.repeat(true, times),
            np.repeat(predicted, times),
            labels=range(5),
            average=average,
            zero_division=0,
        )
        names = [f"{prefix}{name}" for name in ("precision", "recall", "f1")]
        assert [found[name] for name in names] == pytest.approx(wanted[:3])
    assert found["accuracy"] == found["weighted_recall"]


def test_confusions_of_several_runs_are_counted_at_once() -> None:
    true = np.array([0, 0, 1, 2])
    runs = np.array([[[0, 1, 1, 2]], [[2, 2, 2, 2]]])
    found = confusion_counts(true, runs, 3)
    assert found.shape == (2, 1, 3, 3)
    assert found[0, 0].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found[1, 0].tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("metric", METRICS)
def test_an_effect_is_the_derivative_by_the_weight_of_an_image(metric: str) -> None:
    """Moving weight from all images of a class to one of them, and the scale for a class of n."""
    true, predicted = answers(np.random.RandomState(3), 50)
    effects = metric_effects(confusion_counts(true, predicted, 4))[metric][1][true, predicted]
    step = 1e-6
    for image in range(0, 50, 7):
        same = true == true[image]
        n = int(same.sum())
        weights = np.ones(50)
        weights[same] -= step / n
        weights[image] += step
        moved = (
            scores(true, predicted, weights, 4)[metric]
            - scores(true, predicted, np.ones(50), 4)[metric]
        ) / step
        assert effects[image] == pytest.approx(moved * (n / (n - 1)) ** 0.5, rel=1e-3, abs=1e-6)


def test_effects_of_accuracy_give_the_textbook_standard_error() -> None:
    """Accuracy over classes of n has the variance sum p(1-p)/(n-1) weighed by size."""
    true = np.repeat([0, 1], [4, 30])
    right = np.r_[[1, 1, 1, 0], np.r_[np.ones(18), np.zeros(12)]].astype(bool)
    predicted = np.where(right, true, 1 - true)
    effects = metric_effects(confusion_counts(true, predicted, 2))["accuracy"][1][true, predicted]
    wanted = (4 / 34) ** 2 * 0.75 * 0.25 / 3 + (30 / 34) ** 2 * 0.6 * 0.4 / 29
    assert (effects**2).sum() == pytest.approx(wanted)


@pytest.mark.parametrize("n", [6, 30])
def test_effects_of_macro_f1_give_the_spread_of_resampled_images(n: int) -> None:
    """Resampling within classes as Rao and Wu (1988): n-1 of n images, weighted by n/(n-1)."""
    random = np.random.RandomState(5)
    true = np.repeat(np.arange(5), n)
    predicted = np.where(random.rand(5 * n) < 0.6, true, random.randint(0, 5, 5 * n))
    effects = metric_effects(confusion_counts(true, predicted, 5))["f1"][1][true, predicted]
    replicates = []
    for _ in range(2000):
        drawn = np.concatenate([random.multinomial(n - 1, np.full(n, 1 / n)) for _ in range(5)])
        replicates.append(scores(true, predicted, drawn * n / (n - 1), 5)["f1"])
    assert (effects**2).sum() ** 0.5 == pytest.approx(np.std(replicates), rel=0.08)


def test_a_single_image_of_a_class_has_no_effect_that_could_be_measured() -> None:
    true, predicted = np.array([0, 1, 1]), np.array([1, 1, 0])
    effects = metric_effects(confusion_counts(true, predicted, 2))["f1"][1][true, predicted]
    assert effects[0] == 0
    assert np.isfinite(effects).all()


def test_one_image_counts_as_much_as_its_class_is_small() -> None:
    assert one_image(np.repeat([0, 1], 50), 2) == pytest.approx(1 / 100)
    assert one_image(np.repeat([0, 1], [10, 90]), 2) == pytest.approx((1 / 10 + 1 / 90) / 4)

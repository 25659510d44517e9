"""Each score finds what it is for, and leaves alone what it is not for.

Covers: trainer.quality.probabilities, trainer.quality.checking.labels,
trainer.quality.checking.outliers, trainer.quality.checking.realness.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.data.samples import Sample
from trainer.errors import ConfigError
from trainer.quality.checking import outliers
from trainer.quality.checking.labels import check_labels
from trainer.quality.checking.outliers import (
    KINDS,
    check_kind,
    fit_outliers,
    held_out_scores,
    measured,
)
from trainer.quality.checking.realness import area_under_curve, source_groups, tell_apart
from trainer.quality.images import Origin
from trainer.quality.probabilities import compressed, fit_head, out_of_fold, softmax

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]


def planted(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    wrong = random.rand(len(labels)) < share
    return np.where(wrong, (labels + random.randint(1, 5, len(labels))) % 5, labels), wrong


def test_compressing_keeps_distances_of_standardised_features() -> None:
    random = np.random.RandomState(0)
    wide = random.randn(400, 300) * random.rand(300) * 9 + 4
    small = compressed(np.concatenate([wide, np.full((400, 1), 3.0)], axis=1))
    assert small.shape == (400, 256)
    plain = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    kept = (small**2).sum() / (plain**2).sum()
    assert 0.9 < kept < 1.0
    few = compressed(wide[:50])
    assert np.allclose((few**2).sum(), 50 * 300)


def test_probabilities_come_from_heads_that_have_not_seen_the_row(clouds: Clouds) -> None:
    values, labels = clouds(10, 0)
    alone = np.concatenate([values, 30 * np.eye(24)[:1]]).astype(np.float64)
    odd = np.append(labels, 3)
    found, strength = out_of_fold(alone, odd, num_classes=5)
    assert found.shape == (51, 5)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found[:50].argmax(axis=1) == labels).mean() > 0.9
    seen = fit_head(alone, odd, num_classes=5, strength=strength).probabilities(alone)
    assert found[50, 3] < seen[50, 3]


def test_rows_of_one_group_are_never_on_both_sides(clouds: Clouds) -> None:
    values, _ = clouds(20, 0)
    # Labels are noise, but groups of four share theirs and a point of their own.
    labels = np.repeat(np.random.RandomState(1).permutation(25) % 2, 4)
    groups = np.repeat(np.arange(25), 4).astype(str)
    own = np.repeat(np.random.RandomState(2).randn(25, 24), 4, axis=0) * 5
    split, _ = out_of_fold(values + own, labels, num_classes=2)
    whole, _ = out_of_fold(values + own, labels, num_classes=2, groups=list(groups))
    assert (split.argmax(axis=1) == labels).mean() > 0.9
    assert (whole.argmax(axis=1) == labels).mean() < 0.75


def test_untrusted_rows_are_judged_but_not_trained_on(clouds: Clouds) -> None:
    values, labels = clouds(20, 0)
    wrong = np.arange(100) % 4 != 0  # three quarters
    spoilt = np.where(wrong, (labels + 1) % 5, labels)
    fooled, _ = out_of_fold(values.astype(float), spoilt, num_classes=5)
    right, _ = out_of_fold(values.astype(float), spoilt, num_classes=5, trusted=~wrong)
    assert (fooled.argmax(axis=1) == labels).mean() < 0.2
    assert (right.argmax(axis=1) == labels).mean() > 0.8


def test_softmax_of_large_logits_is_finite() -> None:
    assert softmax(np.array([[1e4, 0.0], [0.0, 0.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_wrong_labels_are_found_in_a_style_that_the_real_images_lack(
    clouds: Clouds, shift: float
) -> None:
    (real, ours), (made, truth) = clouds(10, 1), clouds(40, 2, shift=shift)
    labels, wrong = planted(truth, 0.2)
    values = compressed(np.concatenate([real, made]))
    found = check_labels(values[:50], ours, values[50:], labels, num_classes=5)
    assert found.rejected[wrong].mean() >= 0.9
    assert found.rejected[~wrong].mean() <= 0.06
    assert found.cost <= 0.06
    assert found.own == pytest.approx(found.made[np.arange(200), labels])


def test_right_labels_are_hardly_ever_rejected(clouds: Clouds) -> None:
    (real, ours), (made, labels) = clouds(10, 1), clouds(40, 2, shift=1.5)
    values = compressed(np.concatenate([real, made]))
    found = check_labels(values[:50], ours, values[50:], labels, num_classes=5)
    assert found.rejected.mean() <= 0.06
    assert found.threshold <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_outlier_score_tells_unseen_classes_or_says_that_it_cannot(
    clouds: Clouds, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outliers, "_CANDIDATES", 100)  # of vos, for speed
    values, labels = clouds(20, 3)
    known = labels < 4
    score = fit_outliers(kind, values[known].astype(float), labels[known], strength=1.0)
    fresh, fresh_labels = clouds(20, 4)
    strange = score(fresh[fresh_labels == 4].astype(float))
    usual = score(fresh[fresh_labels < 4].astype(float))
    assert np.isfinite([*strange, *usual]).all()
    found = measured(kind, values.astype(float), labels, strength=1.0)
    assert found is not None
    assert 0.5 <= found.auroc <= 1.0
    better = found.sign * (np.median(strange) - np.median(usual))
    assert better > 0 or found.auroc < 0.7


def test_a_score_that_points_the_wrong_way_is_turned_round(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, labels = clouds(20, 3)
    plain = measured("msp", values.astype(float), labels, strength=1.0)
    fit = outliers.fit_outliers

    def inverted(*given: object, **options: object) -> outliers.Score:
        score = fit(*given, **options)  # type: ignore[arg-type]
        return lambda query: -score(query)

    monkeypatch.setattr(outliers, "fit_outliers", inverted)
    turned = measured("msp", values.astype(float), labels, strength=1.0)
    assert plain is not None
    assert turned is not None
    assert (plain.sign, turned.sign) == (1, -1)
    assert turned.auroc == pytest.approx(plain.auroc)


def test_held_out_scores_are_those_of_unseen_images(clouds: Clouds) -> None:
    values, labels = clouds(10, 3)
    seen = fit_outliers("msp", values.astype(float), labels, strength=0.01)(values.astype(float))
    held = held_out_scores("msp", values.astype(float), labels, strength=0.01)
    assert held.mean() > seen.mean()


def test_two_classes_are_too_few_to_measure_an_outlier_score(clouds: Clouds) -> None:
    values, labels = clouds(5, 3)
    assert measured("msp", values[labels < 2], labels[labels < 2], strength=1.0) is None


def test_an_unknown_score_or_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="outlier score 'mps' is unknown; choose from msp"):
        check_kind("mps")
    monkeypatch.setattr(outliers.importlib.util, "find_spec", lambda name: None)
    check_kind("msp")
    with pytest.raises(ConfigError, match="needs pytorch-ood"):
        check_kind("rmd")


def test_images_of_one_kind_are_not_told_apart_and_of_two_kinds_are(clouds: Clouds) -> None:
    (real, _), (same, _), (other, _) = clouds(30, 1), clouds(30, 2), clouds(30, 2, shift=0.6)
    none = tell_apart(real, same, groups=None)
    some = tell_apart(real, other, groups=None)
    assert none.low < 0.5 < none.high
    assert some.low > 0.75
    assert some.low < some.auc < some.high
    assert not some.grouped


def test_the_area_under_the_curve_is_scikit_learns_with_ties_too() -> None:
    random = np.random.RandomState(0)
    for made, real, kinds in ((40, 25, 1000), (40, 25, 4), (1, 9, 3), (7, 7, 1)):
        scores = random.randint(0, kinds, made + real) / kinds
        expected = roc_auc_score(np.arange(made + real) >= made, scores)
        assert area_under_curve(scores[:made], scores[made:]) == pytest.approx(expected, abs=1e-12)


def test_the_probability_of_being_real_is_of_equal_numbers(clouds: Clouds) -> None:
    (real, _), (same, _) = clouds(10, 1), clouds(80, 2)
    found = tell_apart(real, same, groups=None)
    assert 0.35 < np.median(found.made) < 0.65


def test_images_of_one_prompt_or_source_stay_together() -> None:
    def sample(name: str) -> Sample:
        return Sample(path=None, file=name, label="a", sha256=name)  # type: ignore[arg-type]

    real = [sample("a/1.png"), sample("a/2.png")]
    made = [sample(f"m{number}") for number in range(13)]
    origins = [Origin(source_image="a/1.png"), Origin(prompt="p"), Origin(prompt="p")]
    origins += [Origin(prompt=f"p{number}") for number in range(10)]
    groups = source_groups(real, made, origins)
    assert groups is not None
    ours, theirs = groups
    assert ours[0] == theirs[0] != ours[1]
    assert theirs[1] == theirs[2] != theirs[3]
    assert source_groups(real, made, [Origin(prompt="p")] * 13) is None
    assert source_groups(real, made, [Origin()] * 13) is not None

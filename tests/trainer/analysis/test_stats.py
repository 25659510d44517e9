"""Intervals and tests against scikit-learn, SciPy, statsmodels and worked examples from print."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from trainer.analysis.stats import (
    CellScores,
    SeedSpread,
    bootstrap_weights,
    class_change,
    contrast,
    holm,
    mcnemar,
    seed_spread,
    slope_terms,
    summarise,
    weighted_scores,
)


def cell(
    values: list[float], *, image_noise: np.ndarray | None = None, seeds: tuple[int, ...] = ()
) -> CellScores:
    """A cell whose replicates do not move, or all move by `image_noise`."""
    array = np.array(values)
    noise = np.zeros(4000) if image_noise is None else image_noise
    return CellScores(seeds or tuple(range(len(values))), array, array[:, None] + noise)


def answers(
    random: np.random.RandomState, n: int, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    true = np.sort(random.randint(0, classes, n))
    return true, np.where(random.rand(n) < 0.6, true, random.randint(0, classes, n))


def test_the_seed_interval_is_students_t() -> None:
    values = [0.61, 0.66, 0.70]
    summary = summarise(values)
    low, high = scipy_stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert (summary.value, summary.se) == pytest.approx((0.656667, 0.0260342), abs=1e-6)
    assert (summary.low, summary.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval_and_no_p_value() -> None:
    for found in (summarise([0.5]), contrast([(1.0, cell([0.5]))])):
        assert found is not None
        assert (found.n, found.value, found.se, found.low, found.p) == (1, 0.5, None, None, None)
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_weighted_scores_are_scikit_learns_on_the_images_repeated() -> None:
    true, predicted = answers(np.random.RandomState(1), 60)
    counts = np.random.RandomState(2).randint(0, 4, 60)
    weights = np.stack([np.ones(60), counts], axis=1).astype(np.float32)
    # A fifth class never occurs and is never predicted.
    found = weighted_scores(true, predicted, weights, 5)
    for column, times in ((0, np.ones(60, int)), (1, counts)):
        for prefix, average in (("", "macro"), ("weighted_", "weighted")):
            wanted = precision_recall_fscore_support(
                np.repeat(true, times),
                np.repeat(predicted, times),
                labels=range(5),
                average=average,
                zero_division=0,
            )
            names = [f"{prefix}{name}" for name in ("precision", "recall", "f1")]
            assert [found[name][column] for name in names] == pytest.approx(wanted[:3], abs=1e-6)


def test_resampled_images_give_the_standard_error_of_a_share() -> None:
    """Accuracy over classes of n has the variance sum p(1-p)/(n-1) weighed by size: known without
    resampling."""
    true = np.repeat([0, 1], [4, 30])
    right = np.r_[[1, 1, 1, 0], np.r_[np.ones(18), np.zeros(12)]].astype(bool)
    weights = bootstrap_weights(true, resamples=20000)
    replicates = weighted_scores(true, np.where(right, true, 1 - true), weights, 2)["accuracy"][1:]
    wanted = ((4 / 34) ** 2 * 0.75 * 0.25 / 3 + (30 / 34) ** 2 * 0.6 * 0.4 / 29) ** 0.5
    assert replicates.std() == pytest.approx(wanted, rel=0.03)


def test_the_same_images_are_drawn_every_time_and_for_every_run() -> None:
    true = np.repeat([0, 1, 2], 5)
    weights = bootstrap_weights(true, resamples=20)
    assert (weights == bootstrap_weights(true, resamples=20)).all()
    assert (weights[:, 0] == 1).all()
    for label in range(3):
        assert weights[true == label].sum(axis=0) == pytest.approx(5)


def test_without_image_noise_a_difference_is_the_paired_t_test() -> None:
    before, after = [0.50, 0.56, 0.61, 0.58], [0.55, 0.58, 0.68, 0.60]
    found = contrast([(1.0, cell(after)), (-1.0, cell(before))])
    wanted = scipy_stats.ttest_rel(after, before)
    interval = wanted.confidence_interval()
    assert found is not None
    assert (found.p, found.df) == pytest.approx((wanted.pvalue, 3))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_differences_are_over_the_seeds_that_both_have() -> None:
    found = contrast(
        [
            (1.0, cell([0.7, 0.59, 0.81], seeds=(1, 0, 2))),
            (-1.0, cell([0.5, 0.6, 0.0], seeds=(0, 1, 9))),
        ]
    )
    assert found is not None
    assert (found.n, found.value) == (2, pytest.approx(0.095))
    assert contrast([(1.0, cell([1.0], seeds=(0,))), (-1.0, cell([1.0], seeds=(1,)))]) is None


def test_image_noise_widens_the_interval_and_is_never_left_out() -> None:
    noise = np.random.RandomState(0).normal(0, 0.02, 4000)
    still, moving = cell([0.50, 0.50, 0.50]), cell([0.55, 0.55, 0.55], image_noise=noise)
    alone = contrast([(1.0, moving), (-1.0, still)])
    assert alone is not None
    assert alone.se == pytest.approx(0.02, rel=0.05)  # seeds agree fully, images do not
    assert alone.low == pytest.approx(0.05 - 1.96 * 0.02, abs=0.003)


def test_noise_of_runs_on_images_is_counted_once() -> None:
    """Resampling sees it in each run, seeds see it between runs; the sum of both would be twice too
    much."""
    random = np.random.RandomState(0)
    values, replicates = random.normal(0, 0.03, 400), random.normal(0, 0.03, (400, 3000))
    found = contrast([(1.0, CellScores(tuple(range(400)), values, values[:, None] + replicates))])
    assert found is not None
    assert found.se == pytest.approx(0.03 / 20, rel=0.1)


def test_seeds_that_agree_by_luck_do_not_hide_the_noise_of_runs_on_images() -> None:
    """Three equal scores whose runs each move with the images: no interval of width zero."""
    replicates = 0.6 + np.random.RandomState(0).normal(0, 0.03, (3, 4000))
    found = contrast([(1.0, CellScores((0, 1, 2), np.array([0.6, 0.6, 0.6]), replicates))])
    assert found is not None
    assert found.se == pytest.approx(0.03 / 3**0.5, rel=0.1)


def test_a_lucky_agreement_of_few_seeds_is_not_believed() -> None:
    """Three differences that happen to be equal still vary as the rest of the model's cells do."""
    pair = [(1.0, cell([0.55, 0.55, 0.55])), (-1.0, cell([0.50, 0.50, 0.50]))]
    found = contrast(pair, spread=SeedSpread(variance=0.0004, df=8))
    assert found is not None
    assert (found.se, found.df) == pytest.approx(((0.0004 * 2 / 3) ** 0.5, 8))


def test_the_pooled_spread_is_the_residual_of_a_two_way_layout() -> None:
    from pandas import DataFrame
    from statsmodels.formula.api import ols

    random = np.random.RandomState(3)
    table = random.normal(0.6, 0.05, (4, 5))
    arm, seed = np.indices(table.shape)
    data = DataFrame({"y": table.ravel(), "arm": arm.ravel(), "seed": seed.ravel()})
    fit = ols("y ~ C(arm) + C(seed)", data).fit()
    found = seed_spread([cell(list(row)) for row in table])
    assert found is not None
    assert (found.variance, found.df) == pytest.approx((fit.mse_resid, fit.df_resid))
    assert seed_spread([cell([0.5])]) is None


def test_a_slope_is_least_squares_for_each_seed() -> None:
    amounts, table = [0.0, 0.5, 2.0], np.array([[0.50, 0.52], [0.55, 0.50], [0.45, 0.41]])
    found = contrast(slope_terms(amounts, [cell(list(row)) for row in table]))
    slopes = [scipy_stats.linregress(amounts, table[:, seed]).slope for seed in range(2)]
    assert found is not None
    assert found.value == pytest.approx(np.mean(slopes))
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(slopes, 0).pvalue)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (7, 2), (12, 30), (9, 9), (40, 12)])
def test_mcnemar_is_exact(won: int, lost: int) -> None:
    before = np.r_[np.zeros(won), np.ones(lost), np.ones(5), np.zeros(4)].astype(bool)[None]
    after = np.r_[np.ones(won), np.zeros(lost), np.ones(5), np.zeros(4)].astype(bool)[None]
    found = mcnemar(before, after)
    assert (found.won, found.lost) == (won, lost)
    assert found.p == pytest.approx(statsmodels_mcnemar([[5, won], [lost, 4]], exact=True).pvalue)
    if won + lost:
        assert found.p == pytest.approx(scipy_stats.binomtest(won, won + lost).pvalue)


def test_mcnemar_on_agrestis_approval_ratings() -> None:
    """Agresti, Categorical Data Analysis, table 10.1: 86 and 150 discordant; the exact p is near z
    = -4.17's."""
    before = np.r_[np.zeros(86), np.ones(150)].astype(bool)[None]
    assert mcnemar(before, ~before).p == pytest.approx(3.7e-5, rel=0.03)


def test_seeds_vote_image_by_image() -> None:
    """Image 0 is won by two seeds of three; image 1 is lost; image 2 flips in one seed only and
    counts for neither."""
    before = np.array([[0, 1, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    after = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1]], dtype=bool)
    found = mcnemar(before, after)
    assert (found.won, found.lost) == (1, 1)


def test_holm_is_statsmodels_holm() -> None:
    p = np.random.RandomState(0).rand(30) ** 3
    names = [str(number) for number in range(30)]
    found = holm(dict(zip(names, p, strict=True)))
    assert [found[name] for name in names] == pytest.approx(multipletests(p, method="holm")[1])
    assert holm({}) == {}


def test_holm_on_a_worked_example() -> None:
    """Four hypotheses at 0.01, 0.04, 0.03, 0.005 (Wikipedia, Holm-Bonferroni method): the first and
    the last fall."""
    found = holm({"H1": 0.01, "H2": 0.04, "H3": 0.03, "H4": 0.005})
    assert found == pytest.approx({"H1": 0.03, "H2": 0.06, "H3": 0.06, "H4": 0.02})


def test_a_class_of_few_images_gets_no_interval_of_width_zero() -> None:
    same = np.ones((3, 5), dtype=bool)
    found = class_change(same, same)
    assert found.value == 0
    assert found.low is not None
    assert -0.5 < found.low < -0.25
    assert found.high == pytest.approx(-found.low)


def test_seeds_that_agree_get_agresti_and_mins_interval_by_hand() -> None:
    """Ten images, 3 won and 1 lost. With half an image more in each cell of the table 3.5 are won
    and 1.5 lost of 12, so the difference is 1/6 and its variance (5/12 - 1/36) / 12 = 7/216."""
    before = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 0, 0]] * 3, dtype=bool)
    after = np.array([[1, 1, 1, 0, 1, 1, 1, 1, 0, 0]] * 3, dtype=bool)
    found = class_change(before, after)
    assert (found.n, found.value, found.df) == (3, pytest.approx(0.2), pytest.approx(11))
    assert found.se == pytest.approx((7 / 216) ** 0.5)
    half = 2.2009852 * (7 / 216) ** 0.5  # the 97.5% quantile of Student's t with 11 df
    assert (found.low, found.high) == pytest.approx((1 / 6 - half, 1 / 6 + half))
    half = 1.7958848 * (7 / 216) ** 0.5
    found = class_change(before, after, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((1 / 6 - half, 1 / 6 + half))


def test_one_image_and_seeds_that_disagree_by_hand() -> None:
    """Won by two seeds of three. Seeds: variance 1/3 over 3 seeds, 1/9. Images: centre 2/9 of three
    images, ((4/9 + 1) / 3 - 4/81) / 3 = 35/243. Both have 2 degrees of freedom."""
    found = class_change(np.zeros((3, 1), dtype=bool), np.array([[1], [1], [0]], dtype=bool))
    seeds, images = 1 / 9, 35 / 243
    assert found.value == pytest.approx(2 / 3)
    assert found.se == pytest.approx((seeds + images) ** 0.5)
    assert found.df == pytest.approx((seeds + images) ** 2 / (seeds**2 / 2 + images**2 / 2))
    assert (found.low, found.high) == (-1.0, 1.0)  # a share cannot change by more


@pytest.mark.parametrize(("shift", "seeds_matter"), [(0.0, False), (0.35, True)])
@pytest.mark.parametrize(("seeds", "n"), [(2, 6), (3, 7), (5, 12)])
def test_a_class_change_is_the_two_way_analysis_of_variance_of_statsmodels(
    seeds: int, n: int, shift: float, seeds_matter: bool
) -> None:
    """What a seed shifts for all images is counted as seeds; what is left of runs and images, once,
    with the images. These are Agresti and Min's, of the table with half an image more per cell."""
    from pandas import DataFrame
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm
    from statsmodels.stats.weightstats import DescrStatsW

    random = np.random.RandomState(seeds + 7)
    before = random.rand(seeds, n) < 0.5
    chance = 0.5 + shift * np.where(np.arange(seeds) % 2, 1, -1)[:, None]
    after = random.rand(seeds, n) < chance
    differences = after.astype(float) - before
    seed, image = np.indices(differences.shape)
    columns = {"d": differences.ravel(), "seed": seed.ravel(), "image": image.ravel()}
    table = anova_lm(ols("d ~ C(seed) + C(image)", DataFrame(columns)).fit())
    squares = table["sum_sq"] / table["df"]
    luck = max(0.0, squares["C(seed)"] - squares["Residual"]) / (n * seeds)
    by_image = [*differences.mean(axis=0), 1.0, -1.0]
    padded = DescrStatsW(by_image, weights=[1.0] * n + [0.5, 0.5])
    centre = padded.sum / (n + 2)  # weighted by n + 1; one image more is a tie
    images = (np.dot(padded.weights, np.square(by_image)) / (n + 2) - centre**2) / (n + 2)
    found = class_change(before, after)
    assert (luck > 0) == seeds_matter
    assert found.value == pytest.approx(differences.mean())
    assert found.se == pytest.approx((luck + images) ** 0.5)
    df = (luck + images) ** 2 / (luck**2 / (seeds - 1) + images**2 / (n + 1))
    assert found.df == pytest.approx(df)
    low, high = scipy_stats.t.interval(0.95, df, centre, (luck + images) ** 0.5)
    assert (found.low, found.high) == pytest.approx((max(-1, low), min(1, high)))


def test_a_class_of_one_seed_has_a_change_and_no_interval() -> None:
    found = class_change(np.array([[0, 0, 1]], dtype=bool), np.array([[1, 1, 1]], dtype=bool))
    assert (found.n, found.value, found.low) == (1, pytest.approx(2 / 3), None)


def test_a_class_interval_stays_within_all_images_lost() -> None:
    found = class_change(np.ones((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool))
    assert (found.value, found.low) == (-1.0, -1.0)
    assert found.high is not None
    assert found.high < 0


@pytest.mark.parametrize(("n", "seeds"), [(5, 3), (30, 3), (30, 5), (100, 5)])
def test_a_class_interval_covers_the_truth(n: int, seeds: int) -> None:
    """Images of every difficulty, runs that differ, and a real change of each image's own."""
    random, hits, grids = np.random.RandomState(0), 0, 400
    for _ in range(grids):
        difficulty = random.normal(0.5, 1.5, n)
        logits = np.stack([difficulty, difficulty + random.normal(0, 0.5, n)])[
            :, None
        ] + random.normal(0, 0.2, (2, seeds, 1))
        right = random.rand(2, seeds, n) < 1 / (1 + np.exp(-logits))
        found = class_change(right[0], right[1])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits / grids > 0.93

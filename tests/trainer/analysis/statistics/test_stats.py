"""Intervals and tests against SciPy, statsmodels and worked examples from print."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.spread import SeedSpread
from trainer.analysis.statistics.stats import (
    CHANGE,
    SHARE,
    Estimate,
    below_p,
    class_change,
    contrast,
    detectable,
    equivalence_p,
    holm,
    majority_votes,
    slope_terms,
    summarise,
)

IMAGES = 400


def effects_with(deviation: float, *, seed: int = 0) -> np.ndarray:
    """Effects of IMAGES test images [N] whose sum has this standard deviation exactly."""
    drawn = np.random.RandomState(seed).normal(size=IMAGES)
    drawn *= deviation / np.sqrt((drawn**2).sum())
    assert isinstance(drawn, np.ndarray)
    return drawn


def cell(
    values: list[float], *, effects: np.ndarray | None = None, seeds: tuple[int, ...] = ()
) -> CellScores:
    """A cell on which images have no effect, or in each run these."""
    each = np.zeros(IMAGES) if effects is None else effects
    return CellScores(
        seeds or tuple(range(len(values))), np.array(values), np.tile(each, (len(values), 1))
    )


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
    still, moving = cell([0.50, 0.50, 0.50]), cell([0.55] * 3, effects=effects_with(0.02))
    alone = contrast([(1.0, moving), (-1.0, still)])
    assert alone is not None
    assert alone.se == pytest.approx(0.02)  # seeds agree fully, images do not
    assert alone.low == pytest.approx(0.05 - 1.959964 * 0.02, abs=1e-6)


def test_noise_of_runs_on_images_is_counted_once() -> None:
    """It is in the effects of each run, and in the scatter between runs; the sum of both would be
    twice too much."""
    random = np.random.RandomState(0)
    values = random.normal(0, 0.03, 400)
    effects = np.stack([effects_with(0.03, seed=seed) for seed in range(400)])
    found = contrast([(1.0, CellScores(tuple(range(400)), values, effects))])
    assert found is not None
    assert found.se == pytest.approx(0.03 / 20, rel=0.1)


def test_seeds_that_agree_by_luck_do_not_hide_the_noise_of_runs_on_images() -> None:
    """Three equal scores whose runs each move with the images: no interval of width zero."""
    effects = np.stack([effects_with(0.03, seed=seed) for seed in range(3)])
    found = contrast([(1.0, CellScores((0, 1, 2), np.array([0.6, 0.6, 0.6]), effects))])
    assert found is not None
    assert found.se == pytest.approx(0.03 / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("apart", "df"), [(0.0, 1 / 0.8), (0.04, 1 / 0.9)])
def test_a_fifth_of_the_noise_of_runs_on_images_counts_as_known(apart: float, df: float) -> None:
    """By hand: two runs that images move in opposite ways, together by a variance of 0.0002.

    Scores that agree leave that alone, of which a fifth is known: 1 / (1 - 1/5) degrees of freedom.
    Scores 0.04 apart have the variance 0.0004, twice as much: 1 / (1 - 1/10).
    """
    effects = np.array([[0.01, -0.01], [-0.01, 0.01]])
    found = contrast([(1.0, CellScores((0, 1), np.array([0.5, 0.5 + apart]), effects))])
    assert found is not None
    assert found.se == pytest.approx(0.0004**0.5 if apart else 0.0002**0.5)
    assert found.df == pytest.approx(df)


@pytest.mark.parametrize("seeds", [3, 4, 5, 9, 17])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("images", [0.0, 0.1, 0.3])
def test_whatever_variances_are_made_of_5_percent_are_kept(
    seeds: int, share: float, images: float
) -> None:
    """Runs of variance 1, of which `share` is the noise of runs on images, which by themselves have
    the variance `images` / seeds: over the quantiles of the runs' sample variance, how often a
    mean without effect is outside its interval."""
    luck = (np.eye(seeds) - 1 / seeds) * share**0.5
    hard = np.full((seeds, 1), ((images + share) / seeds) ** 0.5)
    shape = np.linspace(-1, 1, seeds) / np.linspace(-1, 1, seeds).std(ddof=1)
    alarms = []
    for variance in scipy_stats.chi2.ppf((np.arange(200) + 0.5) / 200, seeds - 1) / (seeds - 1):
        runs = CellScores(
            tuple(range(seeds)), shape * variance**0.5, np.concatenate([luck, hard], axis=1)
        )
        found = contrast([(1.0, runs)])
        assert found is not None
        assert found.high is not None
        error = ((1 + images) / seeds) ** 0.5
        alarms.append(2 * scipy_stats.norm.sf((found.high - found.value) / error))
    assert np.mean(alarms) <= (0.059 if seeds == 3 else 0.053)


def test_no_standard_error_is_smaller_than_one_test_image() -> None:
    """All seeds and all images agree: p is not 0, and the interval not a point."""
    before, after = (
        CellScores((0, 1, 2), np.full(3, value), np.zeros((3, IMAGES)), one_image=0.0025)
        for value in (0.50, 0.51)
    )
    found = contrast([(1.0, after), (-1.0, before)])
    assert found is not None
    assert (found.value, found.se) == (pytest.approx(0.01), pytest.approx(0.0025))
    assert found.p == pytest.approx(2 * scipy_stats.norm.sf(4), rel=1e-3)
    assert found.low == pytest.approx(0.01 - 1.959964 * 0.0025, abs=1e-6)


def test_intervals_end_where_shares_end() -> None:
    wide = cell([0.1, 0.9])
    alone = contrast([(1.0, wide)], bounds=SHARE)
    change = contrast([(1.0, wide), (-1.0, cell([0.9, 0.1]))], bounds=CHANGE)
    assert alone is not None
    assert change is not None
    assert (alone.low, alone.high, change.low, change.high) == (0.0, 1.0, -1.0, 1.0)


def test_a_lucky_agreement_of_few_seeds_is_not_believed() -> None:
    """Three differences that happen to be equal still vary as the rest of the model's cells do.

    By hand: 8 degrees of freedom, 2 of them the pair's own, which are 0. The other 6 have a
    variance of 0.0008 * 8 / 6; cells that scatter alike (unevenness 0) count fully, 6 of 8, others
    as 1 / (1/6 + 1/2) = 1.5 degrees of freedom, 1.5 of 3.5.
    """
    pair = [(1.0, cell([0.55, 0.55, 0.55])), (-1.0, cell([0.50, 0.50, 0.50]))]
    rest = 0.0008 * 8 / 6
    for unevenness, share, df in ((0.0, 6 / 8, 8), (0.5, 1.5 / 3.5, 3.5)):
        found = contrast(pair, spread=SeedSpread(0.0004, 8, unevenness))
        assert found is not None
        assert (found.se, found.df) == pytest.approx(((rest * share / 3) ** 0.5, df))


def test_a_slope_is_least_squares_for_each_seed() -> None:
    amounts, table = [0.0, 0.5, 2.0], np.array([[0.50, 0.52], [0.55, 0.50], [0.45, 0.41]])
    found = contrast(slope_terms(amounts, [cell(list(row)) for row in table]))
    slopes = [scipy_stats.linregress(amounts, table[:, seed]).slope for seed in range(2)]
    assert found is not None
    assert found.value == pytest.approx(np.mean(slopes))
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(slopes, 0).pvalue)


def test_seeds_vote_image_by_image() -> None:
    """Image 0 is won by two seeds of three; image 1 is lost; image 2 flips in one seed only and
    counts for neither."""
    before = np.array([[0, 1, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    after = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1]], dtype=bool)
    found = majority_votes(before, after)
    assert (found.won, found.lost) == (1, 1)


def test_two_one_sided_tests_are_statsmodels() -> None:
    from statsmodels.stats.weightstats import ttost_paired

    random = np.random.RandomState(4)
    before, after = random.normal(0.5, 0.02, (2, 6))
    found = contrast([(1.0, cell(list(after))), (-1.0, cell(list(before)))])
    assert found is not None
    for margin in (0.01, 0.03):
        wanted, lower, upper = ttost_paired(after, before, -margin, margin)
        assert equivalence_p(found, margin) == pytest.approx(wanted)
        assert max(lower[1], upper[1]) == pytest.approx(wanted)
        assert below_p(found, margin) == pytest.approx(upper[1])


def test_one_seed_is_equivalent_to_nothing() -> None:
    one = Estimate(1, 0.0)
    assert (equivalence_p(one, 0.01), below_p(one, 0.01), detectable(one)) == (None, None, None)


def test_without_an_error_equivalence_is_what_the_value_says() -> None:
    exact = Estimate(3, 0.01, 0.0, 2.0, 0.01, 0.01, 0.0)
    assert (equivalence_p(exact, 0.02), equivalence_p(exact, 0.01)) == (0.0, 1.0)
    assert (below_p(exact, 0.02), below_p(exact, 0.01)) == (0.0, 1.0)


@pytest.mark.parametrize("tests", [1, 2])
def test_the_detectable_change_has_the_power_that_it_claims(tests: int) -> None:
    """Against statsmodels' exact power of a t-test with 12 differences."""
    from statsmodels.stats.power import TTestPower

    se = 0.02 / 12**0.5
    least = detectable(Estimate(12, 0.0, se, 11.0), tests=tests)
    assert least is not None
    power = TTestPower().power(least / 0.02, nobs=12, alpha=0.05 / tests)
    assert power == pytest.approx(0.8, abs=0.02)


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


def test_a_pilot_counts_in_the_value_but_not_in_the_error() -> None:
    values = [0.5, 0.5, 0.1, 0.3, 0.2, 0.4]
    found = contrast([(1.0, cell(values))], pilot=2)
    later = np.array(values[2:])
    assert found is not None
    assert (found.n, found.value) == (6, pytest.approx(np.mean(values)))
    assert found.se == pytest.approx((later.var(ddof=1) / 6) ** 0.5)
    assert found.df == pytest.approx(3)
    alone = contrast([(1.0, cell(values[:3]))], pilot=2)
    assert alone is not None
    assert (alone.se, alone.p) == (None, None)


def test_overlapping_splits_have_nadeau_and_bengios_variance() -> None:
    values = [0.61, 0.66, 0.70, 0.58]
    split = replace(cell(values), overlap=0.25)
    found = contrast([(1.0, split)])
    assert found is not None
    assert found.se == pytest.approx((np.var(values, ddof=1) * (1 / 4 + 0.25)) ** 0.5)
    assert found.df == pytest.approx(3)
    assert found.images == pytest.approx(np.var(values, ddof=1) * 0.25)


def test_over_splits_no_standard_error_is_smaller_than_one_test_image() -> None:
    """All seeds agree in a cell and in a class, so their own variance is 0."""
    before, after = (
        CellScores((0, 1, 2), np.full(3, value), np.zeros((3, IMAGES)), 0.0025, overlap=0.3)
        for value in (0.50, 0.51)
    )
    found = contrast([(1.0, after), (-1.0, before)])
    assert found is not None
    assert found.se == pytest.approx(0.0025)
    one = class_change(np.zeros((3, 8), dtype=bool), np.ones((3, 8), dtype=bool), overlap=0.3)
    assert (one.value, one.se) == (1.0, pytest.approx(0.1))


def test_intervals_over_splits_cover_the_truth_and_plain_ones_do_not() -> None:
    """Errors of single images are independent; each of 10 splits tests on a quarter of 80."""
    random = np.random.RandomState(0)
    covered = {0.0: 0, 1 / 3: 0}
    for _ in range(1000):
        images = random.standard_normal(80)
        values = [images[random.permutation(80)[:20]].mean() for _ in range(10)]
        for overlap in covered:
            found = contrast([(1.0, replace(cell(values), overlap=overlap))])
            assert found is not None
            covered[overlap] += not found.excludes_zero
    assert covered[1 / 3] >= 920
    assert covered[0.0] <= 850


def test_a_class_over_splits_has_the_same_correction() -> None:
    random = np.random.RandomState(1)
    before, after = random.rand(5, 40) < 0.5, random.rand(5, 40) < 0.6
    found = class_change(before, after, overlap=0.5)
    means = (after.astype(float) - before).mean(axis=1)
    assert found.value == pytest.approx(means.mean())
    assert found.se == pytest.approx((means.var(ddof=1) * (1 / 5 + 0.5)) ** 0.5)

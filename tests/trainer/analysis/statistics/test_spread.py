"""The spread of runs between seeds: pooled, and moderated where cells scatter unevenly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.spread import (
    SeedSpread,
    _log_f,
    _residuals,
    moderated,
    seed_spreads,
    unevenness,
)


def cell(values: np.ndarray, seeds: tuple[int, ...] = ()) -> CellScores:
    return CellScores(seeds or tuple(range(len(values))), values, np.zeros((len(values), 1)))


def cells_of(deviations: list[float], *, seeds: int = 6, seed: int = 0) -> list[CellScores]:
    random = np.random.RandomState(seed)
    return [cell(random.normal(0.6, deviation, seeds)) for deviation in deviations]


def test_the_pooled_spread_is_the_residual_of_a_two_way_layout() -> None:
    from pandas import DataFrame
    from statsmodels.formula.api import ols

    table = np.random.RandomState(3).normal(0.6, 0.05, (4, 5))
    arm, seed = np.indices(table.shape)
    data = DataFrame({"y": table.ravel(), "arm": arm.ravel(), "seed": seed.ravel()})
    fit = ols("y ~ C(arm) + C(seed)", data).fit()
    found = seed_spreads({"cnn": [cell(row) for row in table]})["cnn"]
    assert found is not None
    assert (found.variance, found.df) == pytest.approx((fit.mse_resid, fit.df_resid))


def test_missing_seeds_lower_the_degrees_of_freedom() -> None:
    cells = [cell(np.array([0.5, 0.6, 0.7])), cell(np.array([0.5, 0.7]), (0, 2))]
    found = seed_spreads({"cnn": cells})["cnn"]
    assert found is not None
    assert found.df == 1  # two cells on two shared seeds
    assert seed_spreads({"cnn": [cell(np.array([0.5]))]})["cnn"] is None
    assert seed_spreads({"cnn": []})["cnn"] is None


def test_a_cell_of_few_seeds_does_not_look_as_if_it_scattered_more() -> None:
    random, found = np.random.RandomState(0), []
    for _ in range(800):
        cells = [cell(random.normal(0.6, 1.0, seeds)) for seeds in (2, 2, 8, 8)]
        found.append([variance for variance, _ in _residuals(cells).by_cell])
    assert np.mean(found, axis=0) == pytest.approx(np.ones(4), abs=0.2)  # 2.0 if scaled again


def test_cells_that_scatter_unevenly_are_pooled_less() -> None:
    """One model's cells of equal scatter, and cells of which some scatter ten times as much."""
    even = seed_spreads({"a": cells_of([0.02] * 8)})["a"]
    uneven = seed_spreads({"a": cells_of([0.005, 0.05] * 4)})["a"]
    assert even is not None
    assert uneven is not None
    assert even.unevenness < 0.25 < 0.5 < uneven.unevenness <= 1


def test_unevenness_is_learnt_from_all_models_and_levels_do_not_matter() -> None:
    quiet, loud = cells_of([0.002] * 6), cells_of([0.1] * 6, seed=1)
    both = seed_spreads({"a": quiet, "b": loud})
    assert both["a"] is not None
    assert both["b"] is not None
    assert both["a"].unevenness == both["b"].unevenness < 0.3
    assert both["a"].variance < 1e-4 < both["b"].variance


def test_without_cells_to_learn_from_it_is_what_is_assumed_beforehand() -> None:
    assert unevenness([]) == pytest.approx(3 / 4)  # very uneven is three times as likely as alike
    assert unevenness([[(0.0, 4)] * 3]) == unevenness([])


def test_unevenness_is_bayes_rule_for_two_candidates() -> None:
    """Cells on 4 df, their level integrated out: by quadrature, with SciPy's densities."""
    variances, df = np.array([1.0, 1.5, 6.0]), np.full(3, 4.0)
    levels = variances.mean() * np.exp(np.linspace(-2.0, 1.2, 25))[:, None]
    alike = (scipy_stats.chi2.pdf(variances * df / levels, df) * df / levels).prod(axis=1).mean()
    uneven = (scipy_stats.f.pdf(variances / levels, df, 1) / levels).prod(axis=1).mean()
    wanted = 3 * uneven / (3 * uneven + alike)
    assert 0.1 < wanted < 0.9
    assert unevenness([[(value, 4) for value in variances]]) == pytest.approx(wanted)


@pytest.mark.parametrize("d0", [1.0, 2.0, np.inf])
def test_the_likelihood_is_scipys_f_distribution(d0: float) -> None:
    x, df = np.array([0.2, 1.0, 3.0]), np.array([2.0, 4.0, 4.0])
    wanted = (
        scipy_stats.chi2.logpdf(x * df, df) + np.log(df)
        if np.isinf(d0)
        else scipy_stats.f.logpdf(x, df, d0)
    )
    assert _log_f(x, df, d0) == pytest.approx(wanted)


def test_moderation_by_hand() -> None:
    """Own variance 3 on 4 df, pooled 2 on 16: the others are (32 - 12) / 12 = 5/3 on 12 df."""
    alike = moderated(3.0, 4, 2.0, SeedSpread(1.0, 16, 0.0))
    assert alike[0] == pytest.approx(2.0)  # all 16 count alike
    assert alike[1] == 16
    prior = 1 / (0.25 + 1 / 12)  # = 3
    uneven = moderated(3.0, 4, 2.0, SeedSpread(1.0, 16, 0.25))
    assert uneven[0] == pytest.approx((prior * 5 / 3 + 4 * 3) / (prior + 4))
    assert uneven[1] == pytest.approx(7)
    assert moderated(3.0, 4, 2.0, SeedSpread(1.0, 4, 0.0)) == (3.0, 4)  # nothing to borrow

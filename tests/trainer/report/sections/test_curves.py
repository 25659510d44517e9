"""What is said of a curve: does more help, and up to where, or that this cannot be told.

Covers: trainer.report.sections.curves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.analysis.results import results_of
from trainer.analysis.statistics.stats import Estimate
from trainer.analysis.statistics.trends import Trend
from trainer.report.sections.curves import best_words, end_words, shape_words
from trainer.runs import read_grid

UP = Estimate(4, 0.02, low=0.01, high=0.03, p=0.001)
FLAT = Estimate(4, -0.002, low=-0.019, high=0.015, p=0.8)
RISES = Trend(
    *("cnn", "updates", "synthetic", (0.0, 1.0, 3.0, 6.0)),
    slope=UP,
    p_slope=0.001,
    steps=(UP, FLAT),
    p_steps=(0.001, 0.8),
    changes=(UP, UP, UP),
    best=2,
    plausible=(2, 3),
    beyond=FLAT,
    beyond_to=3,
)


@pytest.mark.parametrize(
    ("trend", "words"),
    [
        (RISES, "rises at least to ratio 3; cannot tell whether it levels off there"),
        (replace(RISES, enough=2), "rises, then levels off: no more is needed than ratio 3"),
        (replace(RISES, plausible=(0, 1, 2, 3)), "rises; cannot tell where it levels off"),
        (replace(RISES, steps=(UP, UP), p_steps=(0.1, 0.001)), "still rises at the largest ratio"),
        (
            replace(RISES, plausible=(3,), beyond=None, beyond_to=None),
            "rises up to the largest ratio, 6",
        ),
        (replace(RISES, p_slope=0.2), "no clear trend"),
        (replace(RISES, slope=replace(UP, value=-0.02)), "falls"),
    ],
)
def test_a_curve_in_words_says_where_it_levels_off_or_that_it_cannot_be_told(
    trend: Trend, words: str
) -> None:
    assert shape_words(trend) == words


def test_the_best_ratio_has_an_interval_and_the_others_that_may_be_best() -> None:
    best = "Best: ratio 3 (+2.0 points, 95% CI +1.0 to +3.0)"
    assert best_words(RISES) == f"{best}; not significantly worse: ratio 6."
    assert best_words(replace(RISES, plausible=(0, 2))).endswith("worse: real only.")
    alone = replace(RISES, best=0, plausible=(0,))
    assert best_words(alone) == "Best: real only, better than every other ratio."


def test_what_lies_beyond_is_said_only_where_the_end_cannot_be_told(
    make_grid: Callable[..., Path], tmp_path: Path
) -> None:
    grid = make_grid(tmp_path, {"real/both": [0.5, 0.5], "add:1/updates": [0.6, 0.6]})
    results = results_of(read_grid(grid))
    assert end_words(results, RISES) == ("From ratio 3 to 6: −0.2 points (95% CI −1.9 to +1.5). ")
    enough = end_words(results, replace(RISES, enough=2))
    assert (
        enough == "More than 90 synthetic images per class add less than 1 point (95% confidence). "
    )
    assert end_words(results, replace(RISES, plausible=(3,), beyond=None, beyond_to=None)) == ""
    assert end_words(results, replace(RISES, p_slope=0.2)) == ""

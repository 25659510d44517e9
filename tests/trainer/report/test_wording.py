"""The report's sentences and warnings follow the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.analysis.results import Results, results_of
from trainer.report.wording import answers, p_value, points, warnings
from trainer.runs import read_grid

BASE = {"real/both": [0.50] * 4}


@pytest.fixture
def results(tmp_path: Path, make_grid: Callable[..., Path]) -> Callable[..., Results]:
    """The results of a grid that is written with these shares of right answers."""

    def make(right: dict[str, list[float | None]], **options: Any) -> Results:
        return results_of(read_grid(make_grid(tmp_path / "grid", right, **options)))

    return make


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.80, "changed the macro F1 of the small CNN by +"),
        (0.20, "changed the macro F1 of the small CNN by −"),
        (0.50, "made no measurable change to the macro F1 of the small CNN ("),
    ],
)
def test_the_answer_is_a_sentence_that_follows_the_test(
    results: Callable, share: float, expected: str
) -> None:
    (sentence,) = answers(results({**BASE, "add:1/updates": [share] * 4}))
    assert sentence.startswith(f"With 30 real images per class, adding 30 synthetic {expected}")
    assert "95% CI" in sentence
    assert " p " in sentence


def test_the_answer_is_about_the_largest_ratio_and_says_both_budgets(results: Callable) -> None:
    cells = {
        f"add:{ratio}/{budget}": [0.6] * 4 for ratio in (1, 2) for budget in ("updates", "epochs")
    }
    (sentence,) = answers(results({**BASE, **cells}))
    assert "adding 60 synthetic" in sentence
    assert "with the same number of epochs +" in sentence
    assert "after correction for 4 comparisons" in sentence


def test_each_source_and_each_model_gets_its_own_sentence(results: Callable) -> None:
    cells = {"cnn/real/both": [0.5] * 3, "vit/real/both": [0.5] * 3}
    cells |= {
        f"{model}/add:1@{source}/updates": [0.5] * 3
        for model in ("cnn", "vit")
        for source in ("syn1", "syn2")
    }
    found = answers(results(cells, models=("cnn", "vit"), sources={"syn1": "a", "syn2": "b"}))
    assert ["from syn1" in each for each in found] == [True, False, True, False]
    assert ["the small CNN" in each for each in found] == [True, True, False, False]


def test_without_additive_cells_it_is_about_what_was_done(results: Callable) -> None:
    (sentence,) = answers(
        results({**BASE, "fewer:0.5/updates": [0.4] * 4, "swap:0.5/both": [0.3] * 4})
    )
    assert "training on 50% of real replaced by synthetic changed the macro F1" in sentence
    (sentence,) = answers(results({**BASE, "fewer:0.5/updates": [0.4] * 4}))
    assert "no finished cell with synthetic images" in sentence


def test_one_seed_is_no_test(results: Callable) -> None:
    found = results({"real/both": [0.5], "add:1/updates": [0.9]})
    assert "with a single seed: no interval, no test" in answers(found)[0]
    assert any("Only one seed" in each for each in warnings(found))


def test_where_synthetic_images_hurt_it_says_so_plainly(results: Callable) -> None:
    cells = {
        "add:0.5/updates": [0.52] * 4,
        "add:1/updates": [0.50] * 4,
        "add:2/updates": [0.20] * 4,
    }
    text = "\n".join(warnings(results({**BASE, **cells})))
    assert "Synthetic images made the small CNN worse: real + 60 synthetic, same updates" in text
    assert "More synthetic images made results worse for the small CNN" in text
    assert "More was worse for the small CNN, same updates: from ratio 1 to 2" in text
    assert "from ratio 0.5 to 1" not in text


def test_where_nothing_hurts_there_is_no_such_warning(results: Callable) -> None:
    cells = {"add:0.5/updates": [0.6] * 5, "add:1/updates": [0.7] * 5}
    assert warnings(results({"real/both": [0.5] * 5, **cells})) == []


def test_no_measurable_change_says_what_would_have_been_missed(results: Callable) -> None:
    (text,) = warnings(results({"real/both": [0.5] * 5, "add:1/updates": [0.5] * 5}))
    assert "a true change of less than about" in text


def test_missing_cells_and_seeds_are_named(results: Callable) -> None:
    cells = {"add:1/updates": [0.6, 0.6, None, None], "add:2/updates": [None] * 4}
    text = "\n".join(warnings(results({**BASE, **cells})))
    assert "6 of 12 runs have not been trained" in text
    assert "No finished run for: Small CNN, real + 60 synthetic, same updates." in text
    assert "Compared on fewer seeds: Small CNN, real + 30 synthetic, same updates (2 of 4)." in text


def test_failed_runs_quick_grids_untrained_backbones_and_few_seeds_are_named(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    root = make_grid(
        tmp_path / "grid",
        {"real/both": [0.5] * 3, "add:1/updates": [0.5, 0.5, None]},
        config={"quick": True, "validation_share": 0.2},
    )
    failed = root / "cnn-add-1-updates-seed2"
    failed.mkdir()
    (failed / "error.txt").write_text("loss is nan at update 7\n", encoding="utf-8")
    text = "\n".join(warnings(results_of(read_grid(root))))
    assert "Run cnn-add-1-updates-seed2 failed: loss is nan at update 7" in text
    assert "This is a --quick grid" in text
    assert "Only 3 seeds" in text


def test_leaks_are_named_unless_they_were_dropped(results: Callable) -> None:
    leaks = {"test_images": 4, "total": 9, "dropped": False}
    assert any(
        "4 test images are also among the training images" in each
        for each in warnings(results(BASE, leaks=leaks))
    )
    assert not any(
        "test images" in each for each in warnings(results(BASE, leaks=leaks | {"dropped": True}))
    )


def test_numbers_in_words() -> None:
    assert (points(0.081), points(-0.02), points(-0.00001)) == ("+8.1", "−2.0", "+0.0")
    assert (p_value(0.00004), p_value(0.0312), p_value(0.5), p_value(None)) == (
        "p < 0.001",
        "p = 0.031",
        "p = 0.50",
        "no p-value",
    )

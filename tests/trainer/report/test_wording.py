"""The report's sentences and warnings follow the numbers.

Covers: trainer.report.sections.answers, trainer.report.sections.cautions, trainer.report.wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trainer.analysis.exchange import Exchange
from trainer.analysis.results import Results, results_of
from trainer.analysis.statistics.power import LookPlan
from trainer.analysis.statistics.stats import Estimate
from trainer.report.sections.answers import answers, controls, plans, short_verdicts, worth
from trainer.report.sections.cautions import warnings
from trainer.report.sections.provenance import method_section
from trainer.report.wording import margin, p_value, points
from trainer.runs import read_grid, to_json

BASE = {"real/both": [0.50] * 4}
CONFIG = {"quick": False, "validation_share": 0.2}


@pytest.fixture
def results(tmp_path: Path, make_grid: Callable[..., Path]) -> Callable[..., Results]:
    """The results of a grid that is written with these shares of right answers."""

    def make(right: dict[str, list[float | None]], **options: Any) -> Results:
        return results_of(read_grid(make_grid(tmp_path / "grid", right, **options)))

    return make


@pytest.mark.parametrize(
    ("share", "verdict", "short"),
    [
        (0.80, "): helps.", "Synthetic images: help the small CNN (+"),
        (0.20, "): hurts.", "Synthetic images: hurt the small CNN (−"),
        (
            0.50,
            "): cannot tell.",
            "Synthetic images: cannot tell for the small CNN (",
        ),
    ],
)
def test_the_answer_is_a_sentence_that_follows_the_test(
    results: Callable, share: float, verdict: str, short: str
) -> None:
    found = results({**BASE, "add:1/updates": [share] * 4})
    (sentence,) = answers(found)
    assert sentence.startswith(
        "With 30 real images per class, adding 30 synthetic ones changed the macro F1 of the small "
        "CNN by "
    )
    assert sentence.endswith(verdict)
    assert "points with these training images (95% CI" in sentence
    (first,) = short_verdicts(found)
    assert first.startswith(short)


def test_the_answer_is_about_the_largest_ratio_and_says_both_budgets(results: Callable) -> None:
    cells = {
        f"add:{ratio}/{budget}": [0.6] * 4 for ratio in (1, 2) for budget in ("updates", "epochs")
    }
    (sentence,) = answers(results({**BASE, **cells}))
    assert "adding 60 synthetic" in sentence
    assert "with the same number of epochs +" in sentence
    assert "exploratory): " in sentence
    assert "correction" not in sentence  # a single headline


def test_an_equivalent_arm_is_said_to_change_less_than_what_matters(results: Callable) -> None:
    cells = {"real/both": [1.0] * 4, "add:1/updates": [1.0] * 4}
    found = results(cells, per_class=400)
    assert answers(found)[0].endswith("): no change larger than 1 point.")
    assert short_verdicts(found) == [
        "Synthetic images: no change larger than 1 point for the small CNN (+0.0 points of macro "
        "F1)."
    ]
    strict = results(cells, per_class=400, config=CONFIG | {"meaningful": 0.05})
    assert answers(strict)[0].endswith("): cannot tell.")


def test_the_headline_that_was_planned_and_not_finished_is_not_replaced_silently(
    results: Callable,
) -> None:
    cells = {"add:1/updates": [0.9] * 4, "add:2/updates": [None] * 4}
    (sentence,) = answers(results({**BASE, **cells}))
    assert "adding 30 synthetic" in sentence
    assert ", exploratory): helps." in sentence


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Exchange(30, 60, 7.2, 3.1, 11.8), "were worth 7 real ones (95% 3 to 12)."),
        (Exchange(30, 60, 1.2, -3.1, 11.8), "were worth 1 real one (95% −3 to 12)."),
        (
            Exchange(30, 30, 7.2, 3.1, None),
            "(95% 3 or more), extrapolated: the learning curve ends at 30 real",
        ),
        (Exchange(30, 60, -9.0, None, -2.0), "were worth −9 real ones (95% at most −2)."),
        (
            Exchange(30, 60, None, 90.0, None),
            "were worth at least 90 real ones (95%), extrapolated: ",
        ),
        (Exchange(30, 60, None, None, -15.0), "were worth at most −15 real ones (95%)."),
        (Exchange(30, 60, 5.0, None, None), "The learning curve is too uncertain to say"),
    ],
)
def test_what_images_are_worth_in_words(results: Callable, rate: Exchange, expected: str) -> None:
    found = results({**BASE, "add:1/updates": [0.6] * 4})
    (key,) = found.headlines("cnn")
    sentence = worth(found.grid, key, rate)
    assert expected in sentence
    assert "30 synthetic images per class" in sentence
    assert worth(found.grid, key, None) == ""


def test_a_learning_curve_gives_the_second_sentence(results: Callable) -> None:
    cells = {
        "fewer:0.5/updates": [0.30] * 4,
        "more:1/updates": [0.70] * 4,
        "add:1/updates": [0.60] * 4,
    }
    counts = {"real/both": 72, "fewer:0.5/updates": 36, "more:1/updates": 144, "add:1/updates": 72}
    found = results({**BASE, **cells}, real_images=counts)
    second = answers(found)[0].split(". ", 1)[1]
    assert second.startswith("30 synthetic images per class were worth ")
    rate = found.verdicts.exchanges[found.headlines("cnn")[0]]
    assert rate.value == pytest.approx(24 * 2**0.5 - 24, abs=4)


@pytest.mark.parametrize(
    ("arm", "share", "expected"),
    [
        ("more:1", 0.8, "doubling the real images was found to help the small CNN, same updates"),
        ("more:1", 0.5, "doubling the real images was not found to help the small CNN"),
        ("fewer:0.5", 0.2, "training on 50% of the real images was found to hurt"),
        ("fewer:0.5", 0.5, "training on 50% of the real images was not found to hurt"),
    ],
)
def test_a_positive_control_says_whether_it_was_found(
    results: Callable, arm: str, share: float, expected: str
) -> None:
    (found,) = controls(
        results({**BASE, f"{arm}/updates": [share] * 4, "add:1/updates": [0.5] * 4})
    )
    assert found.startswith(f"Positive control: {expected}")
    assert ("can be missed here" in found) == ("not found" in found)


def test_a_control_that_goes_the_wrong_way_is_suspicious(results: Callable) -> None:
    (found,) = controls(
        results({**BASE, "fewer:0.5/updates": [0.8] * 4, "add:1/updates": [0.5] * 4})
    )
    assert "was not found to hurt the small CNN" in found
    assert found.endswith("tested as a headline): the opposite was, which is suspicious.")


def test_without_such_an_arm_the_report_says_so_and_how_to_have_one(results: Callable) -> None:
    (found,) = controls(results({**BASE, "add:1/updates": [0.9] * 4}))
    assert found.startswith("Positive control: none. ")
    assert "as in --ratios 0,1 --arms fewer:0.5" in found
    unfinished = {"add:1/updates": [0.9] * 4, "fewer:0.5/updates": [None] * 4}
    assert controls(results({**BASE, **unfinished})) == []


def test_the_positive_control_is_the_largest_known_change_tested_as_a_headline(
    results: Callable,
) -> None:
    """Of 40% and 150% of the real images it is 40%, whatever they show; not corrected for the
    exploratory comparisons, but for the other model's control."""
    cells = {
        f"{model}/{arm}": [share + 0.01 * (model == "vit")] * 4
        for model in ("cnn", "vit")
        for arm, share in {
            "real/both": 0.5,
            "more:0.5/updates": 0.9,
            "fewer:0.4/updates": 0.47,
            **{f"add:{ratio}/updates": 0.5 for ratio in range(1, 9)},
        }.items()
    }
    found = results(cells, models=("cnn", "vit"), per_class=300)
    sentences = controls(found)
    assert [each.split(":")[1][:36] for each in sentences] == [
        " training on 40% of the real images "
    ] * 2
    keys = [key for key in found.keys if key.regime == "fewer"]
    one, other = sorted(found.verdicts.comparisons[key].changes["f1"].p or 0 for key in keys)
    shown = [each.split(", ")[-2] for each in sentences]
    assert sorted(shown) == sorted(map(p_value, (2 * one, max(2 * one, other))))
    assert p_value(2 * one) != p_value(one)
    assert all((found.verdicts.comparisons[key].p_holm or 0) > 2 * other for key in keys)


def test_a_headline_of_both_budgets_has_a_control_and_a_learning_curve(results: Callable) -> None:
    cells = {"swap:0.5/both": [0.45] * 4, "fewer:0.5/updates": [0.2] * 4}
    counts = {"real/both": 72, "swap:0.5/both": 36, "fewer:0.5/updates": 36}
    found = results({**BASE, **cells}, real_images=counts)
    assert controls(found)[0].startswith("Positive control: training on 50% of the real images was")
    assert " The images of swap:0.5 were worth −" in answers(found)[0]


def test_asked_for_a_change_it_says_how_many_seeds_find_it(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    cells = {"real/both": [0.48, 0.50, 0.55], "add:1/updates": [0.5, 0.49, 0.53]}
    grid = read_grid(make_grid(tmp_path / "grid", cells))
    assert plans(results_of(grid)) == []
    (few,) = plans(results_of(grid, detect=0.5))
    assert few == (
        "To find a change of 50 points in the small CNN in 80% of such grids, the grid's 3 seeds "
        "are enough."
    )
    (limit,) = plans(results_of(grid, detect=0.01))
    assert "test images are the limit: however many seeds there are, they find no less" in limit
    (more,) = plans(results_of(grid, detect=0.09))
    assert re.search(r"(\d+) seeds are needed \(--seeds \1; the grid has 3\)", more)


def test_collapsed_runs_are_named(results: Callable) -> None:
    found = results({"real/both": [0.5] * 4}, f1={"real/both": [0.5, 0.52, 0.05, 0.48]})
    text = "\n".join(warnings(found))
    assert "Collapsed runs, by macro F1: cnn-real-both-seed2 (5.0% where" in text
    assert not any("Collapsed" in each for each in warnings(results(BASE)))


def test_trainings_that_stayed_at_chance_or_started_again_are_told(results: Callable) -> None:
    found = results(BASE)
    run = next(iter(found.runs[found.keys[0]].values()))
    run.metrics.update(collapsed=True, retries=2)
    text = "\n".join(warnings(found))
    assert f"nothing about what they were trained on: {run.run_id}." in text
    assert re.search(r"1 of \d+ trainings diverged or stayed at chance and started again", text)
    run.metrics.update(collapsed=False, retries=0)
    assert not any("started again" in each for each in warnings(found))


def test_models_that_have_not_learned_are_near_chance(results: Callable) -> None:
    chance = results({"real/both": [0.33, 0.34, 0.33], "add:1/updates": [0.9] * 3})
    assert any("the small CNN is near chance" in each for each in warnings(chance))
    assert not any("near chance" in each for each in warnings(results(BASE)))


@pytest.mark.parametrize(
    ("backbone", "share", "expected"),
    [
        ({"frozen": True, "weights": "file"}, 0.8, "more than the small CNN with any images (at "),
        ({"frozen": True, "weights": "file"}, 0.6, ""),
        ({"frozen": True, "weights": "untrained"}, 0.8, "No frozen pretrained backbone beside the"),
        ({"weights": "file"}, 0.8, "No frozen pretrained backbone beside the small CNN: "),
    ],
)
def test_a_network_from_scratch_is_seen_beside_a_frozen_backbone(
    results: Callable, backbone: dict[str, Any], share: float, expected: str
) -> None:
    cells = {"cnn/real/both": [0.5] * 4, "cnn/add:1/updates": [0.7] * 4}
    cells |= {"lite0/real/both": [share] * 4, "lite0/add:1/updates": [0.9] * 4}
    found = results(cells, models=("cnn", "lite0"))
    found.grid.info["models"]["lite0"].update(backbone)
    told = [each for each in warnings(found) if re.search("backbone beside|with any images", each)]
    assert len(told) == bool(expected)
    assert all(expected in each for each in told)


def test_a_margin_that_no_share_can_have_is_given_as_its_ends() -> None:
    assert margin("f1", Estimate(2, 0.667, 0.3, 1.0, 0.0, 1.0)) == "0.0 to 100.0"
    assert margin("f1", Estimate(3, 0.5, 0.1, 2.0, 0.4, 0.6)) == "±10.0"
    assert margin("nll", Estimate(2, 0.5, 0.1, 1.0, -0.77, 1.77)) == "0.000 to 1.770"
    assert margin("nll", Estimate(3, 0.5, 0.1, 2.0, 0.07, 0.93)) == "±0.430"


def test_each_source_and_each_model_gets_its_own_sentence(results: Callable) -> None:
    cells = {"cnn/real/both": [0.5] * 3, "vit/real/both": [0.5] * 3}
    cells |= {
        f"{model}/add:1@{source}/updates": [0.5] * 3
        for model in ("cnn", "vit")
        for source in ("syn1", "syn2")
    }
    found = answers(results(cells, models=("cnn", "vit"), sources={"syn1": "a", "syn2": "b"}))
    assert ["from syn1" in each for each in found] == [True, False, False] * 2
    assert ["from syn2" in each for each in found] == [False, True, False] * 2
    assert [each.startswith("Taking images from 'syn2'") for each in found] == [0, 0, 1] * 2
    assert all("as many images from 'syn1'" in each for each in found[2::3])
    assert ["the small CNN" in each for each in found] == [True] * 3 + [False] * 3


def test_a_control_of_the_same_source_is_no_comparison_of_sources(results: Callable) -> None:
    cells = {
        "real/both": [0.5] * 4,
        "add:1/updates": [0.55] * 4,
        "add:1+norms:stratified/updates": [0.55] * 4,
        "add:1+norms:aux/updates": [0.9] * 4,
    }
    (first, second, third) = answers(results(cells))
    assert "adding" in first
    assert second.startswith("Stratified batches and their loss changed the macro F1 of the small")
    assert third.startswith("Auxiliary batch normalisation changed the macro F1 of the small CNN")


def test_without_additive_cells_it_is_about_what_was_done(results: Callable) -> None:
    for arm, deed in {
        "swap:0.5/both": "replacing 50% of them by synthetic ones",
        "only:1/updates": "training on 30 synthetic ones instead",
        "balance/updates": "filling up every class with synthetic ones",
        "fill:50/updates": "filling up every class to 50 with synthetic ones",
        "swap:0.5+augment/both": "training on 50% of real replaced by synthetic, standard augment",
    }.items():
        found = answers(results({**BASE, "fewer:0.5/updates": [0.4] * 4, arm: [0.3] * 4}))
        assert found[0].startswith(f"With 30 real images per class, {deed}")
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
    (only,) = warnings(results({"real/both": [0.5] * 5, **cells}))
    assert only.startswith("No frozen pretrained backbone beside")


def test_cannot_tell_says_what_would_have_been_found(results: Callable) -> None:
    *_, text = warnings(results({"real/both": [0.5] * 5, "add:1/updates": [0.5] * 5}))
    assert "Cannot tell does not mean no change" in text
    assert "points would be found in about 80% of such grids" in text


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
    assert any(
        each.startswith("1 test image is also among the training images")
        for each in warnings(results(BASE, leaks=leaks | {"test_images": 1}))
    )
    assert not any(
        "test images" in each for each in warnings(results(BASE, leaks=leaks | {"dropped": True}))
    )


def test_a_file_under_two_labels_is_told(results: Callable) -> None:
    places = [{"part": "train", "file": f"{label}/0.png", "label": label} for label in "ab"]
    leaks = {"test_images": 0, "total": 0, "dropped": False, "two_labels": [places]}
    told = [each for each in warnings(results(BASE, leaks=leaks)) if "two labels" in each]
    assert "one of which must be wrong, such as train/a/0.png = train/b/0.png;" in told[0]
    leaks["two_labels"] = []
    assert not any("two labels" in each for each in warnings(results(BASE, leaks=leaks)))


def test_an_arm_that_lacks_images_is_told_with_its_worst_class(results: Callable) -> None:
    short = [
        {"arm": "add:1", "label": label, "wanted": 30, "there": there}
        for label, there in (("circle", 29), ("cross", 28))
    ]
    text = "\n".join(warnings(results(BASE, capped=short)))
    assert "Arm add:1 has fewer images than it asks for in 2 classes: 28 instead of 30" in text
    assert "for in 1 class: 29 instead of 30 of 'circle'." in "\n".join(
        warnings(results(BASE, capped=short[:1]))
    )


@pytest.mark.parametrize(
    ("config", "training", "per_class", "said"),
    [
        ({"recipe": "classic"}, {"keep": "best"}, 100, "It selects the checkpoint. The test"),
        ({"recipe": "classic"}, {}, 99, "checkpoint. With fewer than 20 of them in a class, the"),
        ({"validation": "holdout"}, {"keep": "last"}, 30, "luck: the last weights are kept"),
        ({"validation": "holdout"}, {"keep": "best"}, 100, "It selects the checkpoint. The test"),
        ({"validation": "holdout"}, {"head": "logistic"}, 100, "Nothing is chosen on it"),
        ({"validation": "kfold"}, {"keep": "last"}, 30, "was chosen by cross-validation inside"),
        ({"recipe": "modern"}, {"keep": "last"}, 30, "No image is held out for validation"),
    ],
)
def test_the_report_says_how_it_validates_and_why(
    results: Callable, config: dict, training: dict, per_class: int, said: str
) -> None:
    found = results(
        BASE,
        config={"quick": False, "validation_share": 0.2, "recipe": "modern", **config},
        images_per_class={"train": [per_class] * 3, "test": [9] * 3},
    )
    found.grid.info["models"]["cnn"]["training"] = training
    text = method_section(found)
    assert said in text
    assert ("by cross-validation inside" in text) == (config.get("validation") == "kfold")


def test_the_report_says_what_fine_tuned_weights_are_mixed_with(results: Callable) -> None:
    found = results(BASE, config={"quick": False, "recipe": "modern"})
    found.grid.info["models"]["cnn"]["training"] = {"keep": "last"}
    assert "Fine-tuning" not in method_section(found)
    found.grid.info["models"]["cnn"]["training"]["start_share"] = 0.25
    text = method_section(found)
    assert "is 75% the tuned weights and 25% those it started from" in text
    assert "regression with an L2 penalty, chosen by cross-validation, fits" in text
    found.grid.info["models"]["cnn"]["training"]["head_penalty"] = 300.0
    assert "regression with an L2 penalty of 300 fits" in method_section(found)


def test_numbers_in_words() -> None:
    assert (points(0.081), points(-0.02), points(-0.00001)) == ("+8.1", "−2.0", "+0.0")
    assert (p_value(0.00004), p_value(0.0312), p_value(0.5), p_value(None)) == (
        "p < 0.001",
        "p = 0.031",
        "p = 0.50",
        "no p-value",
    )


DRAWN = {"train": [30] * 3, "test": [100] * 3, "synthetic": [60] * 3, "more": [570, 600, 600]}


def test_with_redraw_the_answer_is_about_draws(results: Callable) -> None:
    found = results(
        {**BASE, "add:1/updates": [0.8] * 4},
        config=CONFIG | {"redraw": 30},
        images_per_class=DRAWN,
    )
    (sentence,) = answers(found)
    assert sentence.startswith("With 30 real images per class, adding 30 synthetic ones")
    assert "points over draws of training images (95% CI" in sentence
    assert not any("Each seed draws" in each for each in warnings(found))
    assert (
        "<b>new draws</b> of 30 real training images per class from the 600 to 630 there are"
        in (method_section(found))
    )


def test_draws_that_have_much_in_common_are_pointed_out(results: Callable) -> None:
    found = results(
        {**BASE, "add:1/updates": [0.8] * 4},
        config=CONFIG | {"redraw": 30},
        images_per_class=DRAWN | {"more": [30] * 3},
    )
    (warning,) = [each for each in warnings(found) if each.startswith("Each seed draws 30 real")]
    assert "from 60, so draws have 50% of their images in common" in warning


def test_over_splits_the_correction_is_named(results: Callable) -> None:
    counts = {"train": [75] * 3, "test": [100] * 3, "synthetic": [60] * 3, "more": [0] * 3}
    found = results(
        {**BASE, "add:1/updates": [0.8] * 4},
        config=CONFIG | {"test_share": 0.5},
        images_per_class=counts,
    )
    assert found.overlap == pytest.approx(4 / 3)
    assert "points over random splits of the images (95% CI" in answers(found)[0]
    assert "1/seeds + test/training images (1.33) times" in method_section(found)
    assert "Nadeau and Bengio" in method_section(found)


def test_a_planned_grid_says_what_became_of_its_plan(results: Callable) -> None:
    config = CONFIG | {"looks": [4, 8, 12], "detect": 2.0}
    cells = {"real/both": [0.5] * 8, "add:1/updates": [0.8] * 8}
    (sentence,) = plans(results(cells, config=config))
    assert (
        "a pilot of 4 seeds, the grid was planned to find a change of 2 points, with tests after "
        "8 and 12 seeds." in sentence
    )
    assert "It stopped after 8, since every headline was decided." in sentence
    cells = {"real/both": [0.5] * 12, "add:1/updates": [0.5] * 12}
    (sentence,) = plans(results(cells, config=config))
    assert "stopped" not in sentence
    assert "allow for the pilot and for testing several times" in sentence


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("", "tests after 8 and 12 seeds. p-values"),
        ("seeds", "12 seeds. That takes more seeds than were allowed: with 12, a change of 4.2 "),
        ("images", "Test images are the limit: with 12 seeds a change of 4.2 points is found in "),
    ],
)
def test_a_plan_that_cannot_find_the_change_says_what_it_finds_and_why(
    results: Callable, tmp_path: Path, limit: str, expected: str
) -> None:
    config = CONFIG | {"looks": [4, 8, 12], "detect": 2.0}
    cells = {"real/both": [0.5] * 12, "add:1/updates": [0.5] * 12}
    found = results(cells, config=config)
    plan = LookPlan((4, 8, 12), 0.042, limit, 4.4 if limit == "images" else 1.0)
    (tmp_path / "grid" / "seeds.json").write_bytes(to_json(asdict(plan) | {"asked": 2.0}))
    (sentence,) = plans(found)
    assert expected in sentence
    assert ("about 4.4 times as many test images are needed" in sentence) == (limit == "images")

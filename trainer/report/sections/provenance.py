"""Why to trust it: leaks, method, tables to copy, fingerprints of data and configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.analysis.results import Results
from trainer.arms import ends_on_real, norms_of
from trainer.config.grid import ENOUGH_TO_CHOOSE
from trainer.report.html import pairs, section, table, text
from trainer.report.sections.tables import latex_table, markdown_table
from trainer.report.wording import (
    counted,
    drawn_share,
    model_title,
    per_class,
    point_count,
    pool_size,
)

_LEAKS_SHOWN = 30
_LEAK_KINDS = {
    "bytes": "identical file",
    "pixels": "identical pixels",
    "near": "nearly identical picture",
    "mirrored": "mirrored picture",
}


def leak_section(results: Results) -> str:
    """Images that two parts of the data share, if the grid looked for them."""
    leaks = results.grid.info.get("leaks")
    if leaks is None:
        return ""
    checked = ", ".join(f"{count} {part}" for part, count in leaks["checked"].items() if count)
    if not leaks["total"]:
        return section("Leaks", f"<p>None found among {text(checked)} images.</p>")
    kinds = ", ".join(
        f"{count} {_LEAK_KINDS.get(kind, kind)}" for kind, count in leaks["counts"].items() if count
    )
    done = (
        "They were left out of training."
        if leaks["dropped"]
        else "They were used for training, so scores may be too high."
    )
    first = (
        f"<p>{leaks['total']} pairs of matching images in different parts of the data "
        f"({text(kinds)}), involving {leaks['test_images']} test images. {done} Checked: "
        f"{text(checked)} images.</p>"
    )
    rows = [_leak_row(pair) for pair in leaks["pairs"][:_LEAKS_SHOWN]]
    head = "<tr><th>Kept</th><th>Match</th><th>Kind</th></tr>"
    more = leaks["total"] - len(rows)
    note = f"{more} more pairs; `synthgrid leaks` lists them." if more > 0 else ""
    return section("Leaks", first, table(head, rows, kind="grid leaks"), note=note)


def _leak_row(pair: dict[str, Any]) -> str:
    sides = "".join(
        f"<td>{text(side['part'])} <span class='spread'>{text(side['file'])}</span></td>"
        for side in (pair["kept"], pair["dropped"])
    )
    return f"<tr>{sides}<td>{text(_LEAK_KINDS.get(pair['kind'], pair['kind']))}</td></tr>"


def method_section(results: Results) -> str:
    """How cells were trained and compared, and why."""
    items = [*_training_notes(results), *_test_notes(results)]
    return section(
        "Methods",
        f'<ul class="method">{"".join(f"<li>{item}</li>" for item in items)}</ul>',
    )


def _training_notes(results: Results) -> Iterator[str]:
    info = results.grid.info
    budgets = {key.budget for key in results.keys}
    if {"updates", "epochs"} & budgets:
        yield (
            "<b>Same number of optimiser updates:</b> every cell of a model trains for as many "
            "updates as real only, so more images do not also mean more training. <b>Same number "
            "of epochs:</b> a cell with k times the images gets k times the updates, as is usual "
            "in practice. An effect that appears under only one budget is an effect of training "
            "length."
        )
    yield _validation_note(info)
    yield (
        "The seed determines initialisation, validation split, batch order and which synthetic "
        "images are drawn; the draw of a larger ratio contains that of a smaller one. "
        "Hyper-parameters are the same in all cells. Images are cropped to the largest centred "
        "square and resized."
    )
    if any(norms_of(key.arm) for key in results.keys):
        weight = info["config"].get("synthetic_weight", 1.0)
        yield (
            "<b>Stratified batches</b> have at least 16 real images (half of a smaller batch); the "
            f"loss is that of the real images plus {weight:g} times that of the synthetic ones, "
            "and mixup and CutMix mix within each kind. <b>Auxiliary batch norm</b> adds to this "
            "batch normalisation of their own for the synthetic images, in training only: "
            "predictions and files have that of the real images. Both train the statistics of "
            "batch normalisation, even where a recipe freezes them. Curves show plain arms only."
        )
    if any(ends_on_real(key.arm) for key in results.keys):
        yield (
            "<b>Then real alone:</b> the first half of a cell's updates takes all its images, the "
            "second half the real ones; the learning rate goes on falling. A checkpoint is chosen "
            "in the second half only."
        )
    if any(entry["frozen"] for entry in info["models"].values()):
        yield (
            "The features of a frozen backbone are standardised with the mean and standard "
            "deviation of the cell's real training images. The head on them: "
            + "; ".join(dict.fromkeys(_head(entry) for entry in _frozen(info)))
            + "."
        )
    starts = {
        (entry["training"].get("start_share", 0.0), entry["training"].get("head_penalty", 0.0))
        for entry in info["models"].values()
    }
    for share, penalty in sorted(starts):
        if not share:
            continue
        strength = f" of {penalty:g}" if penalty else ", chosen by cross-validation,"
        yield (
            "Fine-tuning starts from pretrained weights and a last layer that a logistic "
            f"regression with an L2 penalty{strength} fits; what is used in the end is "
            f"{1 - share:.0%} the tuned weights and {share:.0%} those it started from (Wortsman "
            "et al. 2022)."
        )


def _validation_note(info: Mapping[str, Any]) -> str:
    """Which images chose a checkpoint, if any did, and why."""
    config = info["config"]
    once = "The test images are used once, at the end."
    held = config.get("recipe", "classic") == "classic" and not config.get("validation")
    if held or config.get("validation") == "holdout":
        return (
            f"The validation set is {config['validation_share']:.0%} of the <b>real training "
            "images</b> of each class (at least one), the same for every cell of a seed. "
            f"{_chosen_on_it(info)} {once}"
        )
    folds = (
        " The learning rate of each model was chosen by cross-validation inside the real training "
        "images, before anything else was trained."
        if config.get("validation") == "kfold"
        else ""
    )
    return (
        "<b>No image is held out for validation:</b> where there are few, each is worth more for "
        "training, and a checkpoint that is best on a handful of images is best by luck. The "
        f"number of updates is fixed beforehand and the last weights are kept.{folds} {once}"
    )


def _chosen_on_it(info: Mapping[str, Any]) -> str:
    """What is chosen on the validation set. Heads that are fitted have no checkpoints."""
    trained = [entry["training"] for entry in info["models"].values()]
    kept = {each.get("keep", "best") for each in trained if each.get("head", "linear") == "linear"}
    if not kept:
        return "Nothing is chosen on it, as the models here are fitted in one go."
    least = min(info["images_per_class"]["train"]) * info["config"]["validation_share"]
    few = f"With fewer than {ENOUGH_TO_CHOOSE} of them in a class, the best checkpoint"
    if kept == {"last"}:
        return f"{few} would be a matter of luck: the last weights are kept."
    luck = f" {few} is partly a matter of luck." * (least < ENOUGH_TO_CHOOSE)
    return f"It selects the checkpoint.{luck}"


def _frozen(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in info["models"].values() if entry["frozen"]]


def _head(entry: Mapping[str, Any]) -> str:
    return {
        "linear": "a linear layer, trained like the other models",
        "logistic": "a logistic regression, whose L2 penalty is chosen by cross-validation on the "
        "cell's real training images",
        "cosine": "the nearest class mean by cosine",
        "knn": "the 20 nearest training images by cosine",
    }[entry["training"].get("head", "linear")]


def _test_notes(results: Results) -> Iterator[str]:
    yield _splits_note(results) if results.overlap is not None else _seeds_note(results)
    headlines, rest = results.families
    size = point_count(results.meaningful)
    yield (
        "<b>Headline and exploratory comparisons:</b> the sentences at the top are about the "
        "largest amount of each model and source, a choice that the plan fixes before training. "
        f"This family, {counted(headlines, 'headline comparison')}, is corrected (Holm), so that a "
        "grid without any real effect shows a headline that helps or hurts at most 1 time in 20. "
        f"The other {rest}, direct comparisons with other arms included, are exploratory and "
        "corrected together as a second family; slopes over the ratio, steps from one ratio to the "
        "next, and positive controls are three more."
        + " Each family spans all test sets."
        * (len(results.tests) > 1)
    )
    yield (
        "<b>Verdicts:</b> “helps” and “hurts” follow the corrected p-value. “No change larger than "
        f"{size}” means that two one-sided tests, corrected likewise, exclude a change of {size} "
        "or more either way. All else is “cannot tell”; “suggestive, not confirmed” is added where "
        "the interval excludes 0 and the corrected p-value does not."
    )
    if results.verdicts.exchanges:
        yield (
            "<b>Worth in real images:</b> where the learning curve (real only and the arms fewer: "
            "and more:, straight over the logarithm of the number of real images, one doubling "
            "beyond its end) has the macro F1 of the synthetic arm. The interval holds every "
            "number whose value on the curve does not differ from the arm's at the 5% level."
        )


def _seeds_note(results: Results) -> str:
    return (
        f"<b>What is tested:</b> whether a new grid, {_training_images(results)} Two sources of "
        "variation are accounted for: the test images (paired, within classes, from each image's "
        "effect on macro F1) and the seeds (variance between runs; a few seeds alone estimate it "
        "poorly, so it is moderated by all cells of the model, the less the more unevenly cells "
        "scatter). The interaction of runs and images is counted once. Intervals and p-values use "
        "Student's t; its degrees of freedom are those of the variance between runs, divided by "
        "its share of the whole."
    )


def _splits_note(results: Results) -> str:
    assert results.overlap is not None
    return (
        "<b>What is tested:</b> whether other images of the same kind, split into "
        f"{per_class(results.grid, 'train')} training and {per_class(results.grid, 'test')} test "
        "images per class, would on average show a change in macro F1 from real only. Each seed "
        "splits the images anew, the same way for all cells. Splits overlap and vary less than "
        "independent data would, so the variance between them counts 1/seeds + test/training "
        f"images ({results.overlap:.2f}) times instead of 1/seeds times (Nadeau and Bengio 2003, "
        "an approximation). Intervals and p-values use Student's t."
    )


def _training_images(results: Results) -> str:
    """What is given and what varies, as the middle and the end of a sentence, and the next."""
    grid = results.grid
    shown = "would on average show a change in macro F1 from real only."
    if drawn_share(grid) is None:
        return (
            "<b>with these training images</b>, but with new seeds and new test images of the same "
            f"kind, {shown} Other real training images of the same classes may give another "
            "change; no interval here covers that."
        )
    return (
        f"with new seeds, new test images of the same kind and <b>new draws</b> of "
        f"{per_class(grid, 'train')} real training images per class from the {pool_size(grid)} "
        f"there are, {shown} All cells of a seed train on the same draw. Other synthetic images "
        "may give another change."
    )


def copy_section(results: Results) -> str:
    """The grid as a table for a paper, in Markdown and LaTeX."""
    blocks = (("Markdown", markdown_table(results)), ("LaTeX (booktabs)", latex_table(results)))
    shown = "".join(
        f'<h3>{name}</h3><pre class="copy">{text(content)}</pre>' for name, content in blocks
    )
    return section(
        "Tables to copy",
        shown,
        note="Clicking a table selects all of it. All numbers are in results.json and results.csv.",
    )


def provenance_section(results: Results) -> str:
    """Options, models, fingerprints and versions."""
    info = results.grid.info
    config = {
        name: _shown(value)
        for name, value in info["config"].items()
        if value not in (None, [], "", {})
    }
    blocks = [
        ("Options", config),
        *(
            (model_title(results.grid, model), _model_facts(entry))
            for model, entry in info["models"].items()
        ),
        (
            "Data fingerprints",
            {name: _shown(value) for name, value in info["fingerprints"].items()},
        ),
        (
            "Versions",
            {
                name: _shown(value)
                for name, value in {**info["versions"], "device": info["device"]}.items()
            },
        ),
    ]
    shown = "".join(f"<div><h3>{text(title)}</h3>{pairs(values)}</div>" for title, values in blocks)
    return section("Data, configuration and versions", f'<div class="pairs">{shown}</div>')


def _model_facts(entry: dict[str, Any]) -> dict[str, str]:
    facts = {"input": f"{entry['image_size_px']} px"}
    if entry["weights"]:
        facts["weights"] = f"{entry['weights']} ({entry['weights_fingerprint']})"
    return facts | {
        name: _shown(value) for name, value in entry["training"].items() if value is not None
    }


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(each)}" for name, each in value.items())
    return value if isinstance(value, str) else json.dumps(value)

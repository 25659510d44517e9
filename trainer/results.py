"""From runs on disk to the numbers of a report: cells, changes against real only, sentences. No torch, no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from trainer.arms import BASELINE, arm_of_ratio
from trainer.metrics import METRICS
from trainer.runs import Grid, Run, to_csv
from trainer.stats import Summary, paired_difference, summarise

HEADLINE_METRIC = "f1"
_RUN_COLUMNS = (
    "real_images", "synthetic_images", "copied_images", "more_images", "validation_images", "test_images", "updates", "epochs", "best_update",
    "train_loss", "validation_loss", *METRICS,
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One model at one ratio: each metric over the seeds, and its paired change against ratio 0 (None there)."""

    model: str
    ratio: float
    seeds: tuple[int, ...]
    values: Mapping[str, Summary]
    changes: Mapping[str, Summary | None]


def cells_of(grid: Grid) -> list[Cell]:
    """The cells with at least one finished run, by model and ratio in the grid's order."""
    found = []
    for model in grid.info["config"]["models"]:
        baseline = grid.of(model, BASELINE)
        for ratio in ratios_of(grid):
            runs = grid.of(model, arm_of_ratio(ratio).name)
            if runs:
                found.append(_cell(model, ratio, runs, baseline))
    return found


def ratios_of(grid: Grid) -> list[float]:
    """The additive ratios of the first synthetic source, and 0."""
    return sorted({run.ratio for run in grid.runs if run.arm == arm_of_ratio(run.ratio).name})


def _cell(model: str, ratio: float, runs: list[Run], baseline: list[Run]) -> Cell:
    def by_seed(which: list[Run], metric: str) -> dict[int, float]:
        return {run.seed: run.metrics[metric] for run in which}

    return Cell(
        model=model,
        ratio=ratio,
        seeds=tuple(run.seed for run in runs),
        values={metric: summarise(list(by_seed(runs, metric).values())) for metric in METRICS},
        changes={
            metric: paired_difference(by_seed(baseline, metric), by_seed(runs, metric)) if ratio else None
            for metric in METRICS
        },
    )


def model_title(grid: Grid, model: str) -> str:
    """A model's name for people; an untrained backbone is always named as such."""
    entry = grid.info["models"][model]
    return f"{entry['title']} - untrained backbone" if entry["weights"] == "untrained" else str(entry["title"])


def model_noun(grid: Grid, model: str) -> str:
    """A model's name in a sentence."""
    entry = grid.info["models"][model]
    return f"{entry['noun']} (untrained backbone)" if entry["weights"] == "untrained" else str(entry["noun"])


def per_class(grid: Grid, part: str) -> str:
    """Images a class in "train", "test" or "synthetic": "5", or "4 to 6" where classes differ."""
    counts = grid.info["images_per_class"][part]
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def added_per_class(grid: Grid, ratio: float) -> str:
    """Synthetic images a class that a ratio adds."""
    counts = [int(ratio * count + 0.5) for count in grid.info["images_per_class"]["train"]]
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def points(value: float) -> str:
    """A share as signed percentage points: 0.081 is "+8.1"."""
    return f"{value * 100:+.1f}".replace("-", "−")


def interval(change: Summary) -> str:
    """What is known of a change's uncertainty."""
    if change.low is None or change.high is None:
        return "one seed, no interval"
    return f"95% CI {points(change.low)} to {points(change.high)}, {change.n} seeds"


def answers(grid: Grid, cells: list[Cell]) -> list[str]:
    """One sentence a model: what the largest ratio that finished did to macro F1."""
    found = []
    for model in grid.info["config"]["models"]:
        changed = [cell for cell in cells if cell.model == model and cell.changes[HEADLINE_METRIC] is not None]
        if changed:
            found.append(_answer(grid, changed[-1]))
        else:
            found.append(
                f"{model_title(grid, model)}: no finished cell with synthetic images to compare with real only."
            )
    return found


def _answer(grid: Grid, cell: Cell) -> str:
    change = cell.changes[HEADLINE_METRIC]
    assert change is not None
    start = (
        f"With {per_class(grid, 'train')} real images a class, adding {added_per_class(grid, cell.ratio)} synthetic "
        f"ones a class"
    )
    noun = model_noun(grid, cell.model)
    if change.low is None:
        return f"{start} moved the macro F1 of {noun} by {points(change.mean)} points in the only seed; no interval."
    if not change.excludes_zero:
        return (
            f"{start} made no measurable change to the macro F1 of {noun} "
            f"({points(change.mean)} points, {interval(change)})."
        )
    verb = "raised" if change.mean > 0 else "lowered"
    return f"{start} {verb} the macro F1 of {noun} by {abs(change.mean) * 100:.1f} points ({interval(change)})."


def warnings(grid: Grid, cells: list[Cell]) -> list[str]:
    """What a reader must know before believing the numbers, worst first."""
    found = [f"Run {run.run_id} failed: {run.error}" for run in grid.failed()]
    missing = sum(run.status == "missing" for run in grid.runs)
    if missing:
        found.append(f"{missing} of {len(grid.runs)} runs have not been trained; the same grid command resumes.")
    found += [text for cell in cells if (text := _worse(grid, cell))]
    found += _declines(grid, cells)
    if grid.info["config"]["quick"]:
        found.append("A --quick grid: few images, small images, few updates. Its numbers mean nothing.")
    for model, entry in grid.info["models"].items():
        if entry["weights"] == "untrained":
            found.append(
                f"{model}: untrained backbone. Its weights are random, so the row says nothing about a pretrained {model}."
            )
    leaked = grid.info["test_images_also_trained_on"]
    if leaked:
        found.append(f"{leaked} test images are, byte for byte, also among the training or synthetic images.")
    return found


def _worse(grid: Grid, cell: Cell) -> str:
    change = cell.changes[HEADLINE_METRIC]
    if change is None or change.mean >= 0 or not change.excludes_zero:
        return ""
    return (
        f"Synthetic images made {model_noun(grid, cell.model)} worse at ratio {cell.ratio:g}: "
        f"macro F1 {points(change.mean)} points ({interval(change)})."
    )


def _declines(grid: Grid, cells: list[Cell]) -> list[str]:
    """Where more synthetic images were worse than fewer, beyond the spread over seeds."""
    found = []
    for before, after in pairwise(cells):
        if before.model != after.model or before.ratio == 0:
            continue
        low, high = (
            {run.seed: run.metrics[HEADLINE_METRIC] for run in grid.of(cell.model, arm_of_ratio(cell.ratio).name)}
            for cell in (before, after)
        )
        step = paired_difference(low, high)
        if step is not None and step.mean < 0 and step.excludes_zero:
            found.append(
                f"More was not better for {model_noun(grid, after.model)}: from ratio {before.ratio:g} to "
                f"{after.ratio:g} macro F1 moved by {points(step.mean)} points ({interval(step)})."
            )
    return found


def results_csv(grid: Grid) -> bytes:
    """One row a run, in the grid's order. No times in it: the same grid gives the same bytes."""
    header = (
        "run_id",
        "model",
        "weights",
        "arm",
        "regime",
        "ratio",
        "source",
        "budget",
        "seed",
        "status",
        *_RUN_COLUMNS,
        "error",
    )
    rows = [
        (
            run.run_id, run.model, grid.info["models"][run.model]["weights"], run.arm, run.regime, f"{run.ratio:g}",
            run.source, run.budget, run.seed, run.status,
            *(run.metrics.get(column, "") for column in _RUN_COLUMNS), run.error.replace("\n", " "),
        )
        for run in grid.runs
    ]  # fmt: skip
    return to_csv(header, rows)


def results_json(grid: Grid) -> dict[str, Any]:
    """The same numbers for a script, with cells, changes and sentences."""
    cells = cells_of(grid)
    return {
        "grid": str(grid.root),
        "answers": answers(grid, cells),
        "warnings": warnings(grid, cells),
        "cells": [asdict(cell) for cell in cells],
        "runs": [
            {"run_id": run.run_id, "model": run.model, "arm": run.arm, "regime": run.regime, "ratio": run.ratio}
            | {"source": run.source, "budget": run.budget, "seed": run.seed, "status": run.status}
            | {"metrics": dict(run.metrics), "error": run.error}
            for run in grid.runs
        ],
    }


def percent(summary: Summary) -> str:
    """ "61.3 ± 2.4", in percent; the spread is the standard deviation over seeds."""
    spread = f" ± {summary.sd * 100:.1f}" if summary.sd is not None else ""
    return f"{summary.mean * 100:.1f}{spread}"


def table_text(grid: Grid) -> str:
    """The grid as text for a terminal: a line a cell, percent, mean and standard deviation over seeds."""
    header = ("model", "synthetic", *(title.lower() for title in METRICS.values()), "change in F1")
    rows = [header]
    failed = {(run.model, run.ratio) for run in grid.failed() if run.arm == arm_of_ratio(run.ratio).name}
    for cell in cells_of(grid):
        change = cell.changes[HEADLINE_METRIC]
        note = f"{points(change.mean)} ({interval(change)})" if change else ""
        rows.append(
            (
                model_title(grid, cell.model),
                f"{cell.ratio:g}x = {added_per_class(grid, cell.ratio)}",
                *(percent(cell.values[metric]) for metric in METRICS),
                note + " FAILED RUNS" * ((cell.model, cell.ratio) in failed),
            )
        )
    shown = {(cell.model, cell.ratio) for cell in cells_of(grid)}
    rows += [(model_title(grid, model), f"{ratio:g}x", *("failed",) * 4, "") for model, ratio in sorted(failed - shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)

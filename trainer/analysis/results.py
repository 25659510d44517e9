"""From runs on disk to the numbers of a report: cells, comparisons, results.csv and results.json.
No torch, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trainer.analysis.comparisons import HEADLINE_METRIC, CellKey, Comparison, Verdicts, judge
from trainer.analysis.metrics import FURTHER_METRICS, METRICS
from trainer.analysis.stats import Estimate, summarise
from trainer.arms import BUDGETS, SHARED_BUDGET
from trainer.errors import ReportError
from trainer.runs import Grid, Prediction, Run, read_predictions, to_csv

TITLES = METRICS | FURTHER_METRICS
_RUN_COLUMNS = (
    "real_images",
    "synthetic_images",
    "copied_images",
    "more_images",
    "validation_images",
    "test_images",
    "updates",
    "epochs",
    "best_update",
    "train_loss",
    "validation_loss",
    *TITLES,
)


@dataclass(frozen=True)
class Results:
    """A grid and what its runs show. `keys` are all planned cells in the grid's order, finished or
    not.

    `runs` has the finished ones by cell and seed. `true` [N] and `predicted` [N] a run hold class
    indices of the test images `files`.
    """

    grid: Grid
    keys: tuple[CellKey, ...]
    runs: Mapping[CellKey, Mapping[int, Run]]
    files: tuple[str, ...]
    true: np.ndarray
    predicted: Mapping[CellKey, Mapping[int, np.ndarray]]

    @cached_property
    def verdicts(self) -> Verdicts:
        """All comparisons and trends; computed once, which takes seconds."""
        if not self.predicted:
            return Verdicts({}, {}, ())
        return judge(self.true, self.predicted, len(self.classes))

    @cached_property
    def metrics(self) -> dict[CellKey, dict[str, Estimate]]:
        """Those of TITLES that a cell's runs have; what predictions alone do not give has an
        interval over seeds only."""
        found: dict[CellKey, dict[str, Estimate]] = {}
        for key, counted in self.verdicts.cells.items():
            stored = [self.runs[key][seed].metrics for seed in sorted(self.runs[key])]
            found[key] = {
                name: counted[name]
                if name in counted
                else summarise([each[name] for each in stored])
                for name in TITLES
                if all(name in each for each in stored)
            }
        return found

    @property
    def models(self) -> tuple[str, ...]:
        """The grid's models in its order."""
        return tuple(dict.fromkeys(key.model for key in self.keys))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by index."""
        return tuple(self.grid.info["classes"])

    @cached_property
    def titles(self) -> dict[str, str]:
        """The metrics that any cell has."""
        return {
            name: title
            for name, title in TITLES.items()
            if any(name in found for found in self.metrics.values())
        }

    def of(self, model: str) -> tuple[CellKey, ...]:
        """A model's cells."""
        return tuple(key for key in self.keys if key.model == model)

    def baseline(self, model: str) -> CellKey:
        """A model's real-only cell."""
        return next(key for key in self.of(model) if key.is_baseline)

    def comparison(self, key: CellKey) -> Comparison | None:
        """A cell compared with real only; None for real only itself and if runs are missing."""
        return self.verdicts.comparisons.get(key)

    def twin(self, key: CellKey) -> CellKey | None:
        """The same arm under the other budget."""
        return next(
            (
                each
                for each in self.of(key.model)
                if each.arm == key.arm and each.budget != key.budget
            ),
            None,
        )

    def headlines(self, model: str) -> tuple[CellKey, ...]:
        """The cells that the answer is about: for each synthetic source the largest amount added,
        under the grid's first budget.

        The choice is fixed before the numbers are known: picking the best cell would make any
        answer look good. Without an additive arm it is the last arm with synthetic images.
        """
        seeds = set(self.runs[self.baseline(model)])
        compared = [
            key for key in self.of(model) if not key.is_baseline and seeds & set(self.runs[key])
        ]
        budgets = [
            SHARED_BUDGET,
            *(each for each in BUDGETS if any(key.budget == each for key in compared)),
        ][:2]
        adding = [key for key in compared if key.regime == "add" and key.budget in budgets]
        if not adding:
            return tuple([key for key in compared if key.source and key.budget in budgets][-1:])
        largest = {key.source: key for key in sorted(adding, key=lambda key: key.ratio)}
        return tuple(largest[source] for source in dict.fromkeys(key.source for key in adding))


def results_of(grid: Grid) -> Results:
    """Reads every finished run's predictions.

    Raises:
        ReportError: a file is damaged, or runs looked at different test images.
    """
    keys = {
        run.run_id: CellKey(run.model, run.arm, run.budget, run.regime, run.ratio, run.source)
        for run in grid.runs
    }
    runs: dict[CellKey, dict[int, Run]] = {key: {} for key in keys.values()}
    for run in grid.runs:
        if run.metrics:
            runs[keys[run.run_id]][run.seed] = run
    numbers = {label: number for number, label in enumerate(grid.info["classes"])}
    files: tuple[str, ...] = ()
    true = np.zeros(0, dtype=np.int64)
    predicted: dict[CellKey, dict[int, np.ndarray]] = {}
    for key, by_seed in runs.items():
        for seed, run in by_seed.items():
            rows = read_predictions(grid.root, run.run_id)
            found = tuple(row.file for row in rows)
            if files and found != files:
                raise ReportError(
                    f"{grid.root / run.run_id} was tested on other images than the runs before it; "
                    "delete that folder and run the same grid command again"
                )
            files, true = found, _indices(grid, rows, "true", numbers)
            predicted.setdefault(key, {})[seed] = _indices(grid, rows, "predicted", numbers)
    return Results(grid, tuple(runs), runs, files, true, predicted)


def _indices(
    grid: Grid, rows: Sequence[Prediction], side: str, numbers: Mapping[str, int]
) -> np.ndarray:
    try:
        return np.array([numbers[getattr(row, side)] for row in rows], dtype=np.int64)
    except KeyError as error:
        raise ReportError(
            f"{grid.root}: predictions name the unknown class {error}; run the grid again"
        ) from error


def results_csv(grid: Grid) -> bytes:
    """One row per run, in the grid's order. It contains no times: the same grid gives the same
    bytes."""
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
            run.run_id,
            run.model,
            grid.info["models"][run.model]["weights"],
            run.arm,
            run.regime,
            f"{run.ratio:g}",
            run.source,
            run.budget,
            run.seed,
            run.status,
            *(run.metrics.get(column, "") for column in _RUN_COLUMNS),
            run.error.replace("\n", " "),
        )
        for run in grid.runs
    ]
    return to_csv(header, rows)


def results_json(results: Results) -> dict[str, Any]:
    """All numbers for a script: cells, comparisons, trends and runs. Shares are in 0..1."""
    return {
        "grid": results.grid.root.resolve().name,
        "headline_metric": HEADLINE_METRIC,
        "cells": [_cell_json(results, key) for key in results.keys],
        "trends": [asdict(trend) | {"falls": trend.falls} for trend in results.verdicts.trends],
        "runs": [
            {
                "run_id": run.run_id,
                "model": run.model,
                "arm": run.arm,
                "regime": run.regime,
                "ratio": run.ratio,
            }
            | {"source": run.source, "budget": run.budget, "seed": run.seed, "status": run.status}
            | {"metrics": dict(run.metrics), "error": run.error}
            for run in results.grid.runs
        ],
    }


def _cell_json(results: Results, key: CellKey) -> dict[str, Any]:
    comparison = results.comparison(key)
    found: dict[str, Any] = asdict(key) | {
        "seeds": sorted(results.predicted.get(key, {})),
        "metrics": {
            name: asdict(estimate) for name, estimate in results.metrics.get(key, {}).items()
        },
    }
    if comparison is None:
        return found
    return found | {
        "verdict": comparison.verdict,
        "p_holm": comparison.p_holm,
        "changes": {name: asdict(change) for name, change in comparison.changes.items()},
        "mcnemar": asdict(comparison.mcnemar),
        "classes": dict(zip(results.classes, map(asdict, comparison.classes), strict=True)),
    }

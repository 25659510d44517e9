"""A grid's numbers as files for scripts: results.csv, a row per run, and results.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.comparisons import Duel
from trainer.analysis.results import TITLES, Results
from trainer.runs import Grid, Run, to_csv

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
    tests = grid.info["config"].get("tests") or ()
    header += tuple(f"{metric}@{test}" for test in tests for metric in TITLES)
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
            *(_further(run, test, metric) for test in tests for metric in TITLES),
        )
        for run in grid.runs
    ]
    return to_csv(header, rows)


def _further(run: Run, test: str, metric: str) -> object:
    return run.metrics.get("tests", {}).get(test, {}).get(metric, "")


def results_json(results: Results) -> dict[str, Any]:
    """All numbers for a script: cells, comparisons, trends and runs. Shares are in 0..1."""
    return {
        "grid": results.grid.root.resolve().name,
        "headline_metric": HEADLINE_METRIC,
        **_verdicts_json(results),
        "meaningful": results.meaningful,
        **_tests_json(results),
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


def _verdicts_json(results: Results) -> dict[str, Any]:
    return {
        "cells": [_cell_json(results, key) for key in results.keys],
        "trends": [
            asdict(trend) | {"falls": trend.falls, "shape": trend.shape}
            for trend in results.verdicts.trends
        ],
        "direct_comparisons": [_duel_json(duel) for duel in results.verdicts.duels],
        "run_sd": _run_sd_json(results),
    }


def _tests_json(results: Results) -> dict[str, Any]:
    """The same on each further test set, where there are any."""
    further = {each.test: _verdicts_json(each) for each in results.on_each if each.test}
    return {"tests": further} if further else {}


def _cell_json(results: Results, key: CellKey) -> dict[str, Any]:
    comparison = results.comparison(key)
    found: dict[str, Any] = asdict(key) | {
        "seeds": sorted(results.predicted.get(key, {})),
        "metrics": {
            name: asdict(estimate) for name, estimate in results.metrics.get(key, {}).items()
        },
    }
    rate = results.verdicts.exchanges.get(key)
    if rate is not None:
        found["worth_in_real_images_per_class"] = asdict(rate)
    if comparison is None:
        return found
    return found | {
        "verdict": comparison.verdict,
        "headline": comparison.is_headline,
        "suggestive": comparison.is_suggestive,
        "p_holm": comparison.p_holm,
        "p_same": comparison.p_same,
        "changes": {name: asdict(change) for name, change in comparison.changes.items()},
        "votes": asdict(comparison.votes),
        "classes": dict(zip(results.classes, map(asdict, comparison.classes), strict=True)),
        **_groups_json(results, key),
    }


def _groups_json(results: Results, key: CellKey) -> dict[str, Any]:
    """Head, middle and tail classes by name, if they are told apart."""
    found = {
        name: asdict(each) | {"classes": [results.classes[label] for label in each.classes]}
        for name, each in results.groups(key).items()
    }
    return {"class_groups": found} if found else {}


def _duel_json(duel: Duel) -> dict[str, Any]:
    return {
        "cell": asdict(duel.key),
        "rival": asdict(duel.rival),
        "change": asdict(duel.change),
        "p_holm": duel.p_holm,
        "verdict": duel.verdict,
    }


def _run_sd_json(results: Results) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (model, metric), deviation in results.verdicts.run_sd.items():
        found.setdefault(model, {})[metric] = deviation
    return found

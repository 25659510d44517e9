"""From runs on disk to the numbers of a report: cells and comparisons. No torch, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from trainer.analysis.cellkey import CellKey, headline_keys
from trainer.analysis.comparisons import (
    MEANINGFUL,
    Comparison,
    Judged,
    Verdicts,
    judge_all,
)
from trainer.analysis.metrics import FURTHER_METRICS, METRICS
from trainer.analysis.statistics.power import LookPlan
from trainer.analysis.statistics.stats import Estimate, summarise
from trainer.analysis.tails import GroupChange, group_changes
from trainer.errors import ReportError
from trainer.runs import PLAN_FILE, Grid, Prediction, Run, read_json_file, read_predictions

TITLES = METRICS | FURTHER_METRICS


@dataclass(frozen=True)
class Predicted(Judged):
    """What runs said of the images `files` of one test set; `confidence` is the probability of the
    predicted class, [N] for each cell and seed."""

    files: tuple[str, ...] = ()
    confidence: Mapping[CellKey, Mapping[int, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """A grid and what its runs show. `keys` are all planned cells in the grid's order, finished or
    not.

    In a grid that splits anew for each seed, `files` are those of one of them, and the same place
    in another is another image of the same class. `runs` has the finished ones by cell and seed.
    `detect` is the change, a share, for which the report plans seeds. `tests` has what the runs
    said of each test set, the grid's own first, as ""; `test` is the one that these results are
    about.
    """

    grid: Grid
    keys: tuple[CellKey, ...]
    runs: Mapping[CellKey, Mapping[int, Run]]
    tests: Mapping[str, Predicted]
    asked_meaningful: float | None = None
    detect: float | None = None
    test: str = ""
    _verdicts: dict[str, Verdicts] = field(default_factory=dict, repr=False, compare=False)

    def on(self, test: str) -> Results:
        """The results on another test set, "" for the grid's own."""
        return replace(self, test=test)

    @property
    def on_each(self) -> list[Results]:
        """The results on each test set, the grid's own first."""
        return [self.on(test) for test in self.tests]

    @property
    def files(self) -> tuple[str, ...]:
        """The test images."""
        return self.tests[self.test].files

    @property
    def true(self) -> np.ndarray:
        """The class index of each test image, int [N]."""
        return self.tests[self.test].true

    @property
    def predicted(self) -> Mapping[CellKey, Mapping[int, np.ndarray]]:
        """The class index that each run predicted for each test image, int [N]."""
        return self.tests[self.test].predicted

    @property
    def confidence(self) -> Mapping[CellKey, Mapping[int, np.ndarray]]:
        """The probability of each run's prediction for each test image, [N] in 0..1."""
        return self.tests[self.test].confidence

    @property
    def verdicts(self) -> Verdicts:
        """All comparisons and trends on this test set, corrected for all test sets; computed once,
        which takes seconds."""
        if not self.predicted:
            return Verdicts({}, {}, ())
        if not self._verdicts:
            self._verdicts.update(
                judge_all(
                    self.tests,
                    len(self.classes),
                    planned=self.keys,
                    meaningful=self.meaningful,
                    looks=self.looks,
                    overlap=self.overlap,
                    real_images=self.real_images,
                )
            )
        return self._verdicts[self.test]

    @cached_property
    def families(self) -> tuple[int, int]:
        """How many headline comparisons there are, and how many exploratory ones, over all test
        sets: each family is corrected as a whole."""
        verdicts = [each.verdicts for each in self.on_each]
        found = [one for each in verdicts for one in each.comparisons.values()]
        headlines = sum(each.is_headline for each in found)
        duels = sum(len(each.duels) for each in verdicts)
        return headlines, len(found) - headlines + duels

    @property
    def test_images(self) -> list[int]:
        """How many images of each class there are in this test set."""
        counts: dict[str, list[int]] = self.grid.info["images_per_class"]
        return counts[f"test:{self.test}" if self.test else "test"]

    @property
    def overlap(self) -> float | None:
        """Test images for each training image of a grid that splits anew for each seed, else
        None."""
        if self.grid.info["config"].get("test_share") is None:
            return None
        counts = self.grid.info["images_per_class"]
        return float(sum(counts["test"]) / sum(counts["train"]))

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds at which a planned grid is looked at; () for any other grid."""
        return tuple(self.grid.info["config"].get("looks", ()))

    @cached_property
    def look_plan(self) -> LookPlan | None:
        """The plan of a grid that planned its seeds, if its file is there.

        Raises:
            ReportError: the file is damaged.
        """
        path = self.grid.root / PLAN_FILE
        if not self.looks or not path.is_file():
            return None
        values = read_json_file(path)
        values.pop("asked", None)
        try:
            return LookPlan.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ReportError(f"{path} is damaged ({error!r})") from error

    @property
    def is_decided(self) -> bool:
        """Whether every headline was found to help or to hurt, on every test set."""
        found = [
            each.comparison(key)
            for each in self.on_each
            for model in self.models
            for key in each.headlines(model)
        ]
        return bool(found) and all(
            each is not None and each.verdict in ("better", "worse") for each in found
        )

    @property
    def meaningful(self) -> float:
        """The smallest change of interest, a share: the one asked for, or the grid's own."""
        if self.asked_meaningful is not None:
            return self.asked_meaningful
        return float(self.grid.info["config"].get("meaningful", MEANINGFUL * 100)) / 100

    @cached_property
    def real_images(self) -> dict[CellKey, float]:
        """Real images per class that a cell trains on, additional ones included: the mean over
        seeds and classes."""
        found = {}
        for key, runs in self.runs.items():
            counts = [
                float(run.metrics["real_images"] + run.metrics.get("more_images", 0))
                for run in runs.values()
                if "real_images" in run.metrics
            ]
            if counts and min(counts) > 0:
                found[key] = float(np.mean(counts)) / len(self.classes)
        return found

    @cached_property
    def metrics(self) -> dict[CellKey, dict[str, Estimate]]:
        """Those of TITLES that a cell's runs have; what predictions alone do not give has an
        interval over seeds only."""
        found: dict[CellKey, dict[str, Estimate]] = {}
        for key, counted in self.verdicts.cells.items():
            stored = [self._stored(self.runs[key][seed]) for seed in sorted(self.runs[key])]
            found[key] = {
                name: counted[name]
                if name in counted
                else summarise([each[name] for each in stored])
                for name in TITLES
                if all(name in each for each in stored)
            }
        return found

    def _stored(self, run: Run) -> Mapping[str, Any]:
        """A run's own metrics on this test set."""
        return run.metrics["tests"][self.test] if self.test else run.metrics

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

    def groups(self, key: CellKey) -> dict[str, GroupChange]:
        """How head, middle and tail classes change from real only, where classes differ a lot in
        their real training images; else {}."""
        before = self.predicted.get(self.baseline(key.model))
        after = self.predicted.get(key)
        if not before or not after or key.is_baseline:
            return {}
        counts = self.grid.info["images_per_class"]["train"]
        return group_changes(self.true, before, after, counts, overlap=self.overlap)

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
        """The cells that the answer is about, those of `headline_keys` that are finished.

        In place of one that is not finished stands the one that would have been planned without it.
        """
        compared = self.verdicts.comparisons
        found = headline_keys(self.of(model))
        missing = [key for key in found if key not in compared]
        if not missing:
            return found
        finished = [key for key in self.of(model) if key.is_baseline or key in compared]
        instead = {key.source: key for key in headline_keys(finished)}
        kept = {key.source: instead.get(key.source) for key in found} or instead
        return tuple(key for key in kept.values() if key is not None)


def results_of(
    grid: Grid, *, meaningful: float | None = None, detect: float | None = None
) -> Results:
    """Reads every finished run's predictions. `meaningful` is the smallest change of interest in
    place of the grid's own, `detect` a change to plan seeds for; both are shares.

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
    tests = ("", *(grid.info["config"].get("tests") or ()))
    found = {test: _predicted(grid, runs, test) for test in tests}
    return Results(grid, tuple(runs), runs, found, meaningful, detect)


def _predicted(grid: Grid, runs: Mapping[CellKey, Mapping[int, Run]], test: str) -> Predicted:
    numbers = {label: number for number, label in enumerate(grid.info["classes"])}
    one_test = grid.info["config"].get("test_share") is None
    files: tuple[str, ...] = ()
    true = np.zeros(0, dtype=np.int64)
    predicted: dict[CellKey, dict[int, np.ndarray]] = {}
    confidence: dict[CellKey, dict[int, np.ndarray]] = {}
    for key, by_seed in runs.items():
        for seed, run in by_seed.items():
            rows = read_predictions(grid.root, run.run_id, test)
            found = tuple(row.file for row in rows)
            labels = _indices(grid, rows, "true", numbers)
            same = found == files if one_test else np.array_equal(labels, true)
            if files and not same:
                raise ReportError(
                    f"{grid.root / run.run_id} was tested on other images than the runs before it; "
                    "delete that folder and run the same grid command again"
                )
            files, true = found, labels
            predicted.setdefault(key, {})[seed] = _indices(grid, rows, "predicted", numbers)
            confidence.setdefault(key, {})[seed] = np.array([row.p_predicted for row in rows])
    return Predicted(true, predicted, files, confidence)


def _indices(
    grid: Grid, rows: Sequence[Prediction], side: str, numbers: Mapping[str, int]
) -> np.ndarray:
    try:
        return np.array([numbers[getattr(row, side)] for row in rows], dtype=np.int64)
    except KeyError as error:
        raise ReportError(
            f"{grid.root}: predictions name the unknown class {error}; run the grid again"
        ) from error

"""The runs folder on disk, which training writes and the report reads. No torch.

    <grid>/grid.json          config, classes, fingerprints, leaks, versions, and the list of runs
    <grid>/leaks.json         the search for leaks, for the next grid on the same images
    <grid>/samples.png        contact sheet: one row per class, real tiles, then synthetic ones
    <grid>/mistakes.json      the worst mistakes and similar synthetic images
    <grid>/mistakes.png       their thumbnails
    <grid>/seeds.json         the plan of --seeds auto
    <grid>/kfold.json         learning rates chosen by cross-validation, if they were
    <grid>/features/          a frozen backbone's features; may be deleted
    <grid>/<run id>/          config.json, metrics.json, predictions.csv, training_images.csv,
                              model.safetensors, DONE; predictions-NAME.csv for a further test set
    <grid>/<run id>/error.txt instead of results, for a run that failed
    <grid>/.grid.lock         held while a grid is trained; .inputs and .partial-* exist meanwhile

A run's folder appears complete, by one rename. DONE in it means that the run is not trained again.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import LabelsetError, write_atomically
from trainer.arms import SHARED_BUDGET
from trainer.errors import ReportError

GRID_FILE = "grid.json"
PLAN_FILE = "seeds.json"
LEAKS_FILE = "leaks.json"
SAMPLES_FILE = "samples.png"
MISTAKES_FILE, MISTAKES_SHEET = "mistakes.json", "mistakes.png"
DONE = "DONE"
ERROR_FILE = "error.txt"
INPUTS_FOLDER = ".inputs"  # files that the executors' processes share while they train
_PARTIAL = ".partial-"
_RUN_TEXTS = ("run_id", "model", "arm", "regime", "source", "budget")


@dataclass(frozen=True)
class Prediction:
    """One test image's outcome; probabilities in 0..1."""

    file: str
    true: str
    predicted: str
    p_predicted: float
    p_true: float


@dataclass(frozen=True)
class Run:
    """One run as found on disk. `metrics` is empty unless it is done; `error` says why it failed.

    `arm` is an arm's name, `regime` and `ratio` its parts (0 if it has no amount), `source` the
    synthetic sources it draws from ("" for none). `budget` is "updates" or "epochs", or "both" for
    an arm with as many images as the baseline, such as the baseline itself, whose runs count for
    either.
    """

    run_id: str
    model: str
    arm: str
    regime: str
    ratio: float
    source: str
    budget: str
    seed: int
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    error: str = ""

    @property
    def status(self) -> str:
        """ "done", "failed" or "missing"."""
        return "done" if self.metrics else "failed" if self.error else "missing"


@dataclass(frozen=True)
class Grid:
    """A grid as found on disk; `info` is grid.json."""

    root: Path
    info: Mapping[str, Any]
    runs: tuple[Run, ...]

    def of(self, model: str, arm: str, budget: str = "updates") -> list[Run]:
        """The finished runs of one cell, by seed. Those of the baseline belong to every budget."""
        found = [run for run in self.runs if (run.model, run.arm) == (model, arm) and run.metrics]
        return sorted(
            (run for run in found if run.budget in (budget, SHARED_BUDGET)),
            key=lambda run: run.seed,
        )

    def failed(self) -> list[Run]:
        """The runs that failed."""
        return [run for run in self.runs if run.status == "failed"]


def is_done(root: Path, run_id: str) -> bool:
    """Whether the results of this run exist."""
    return (root / run_id / DONE).is_file()


def write_run(root: Path, run_id: str, files: Mapping[str, bytes]) -> None:
    """Creates a run's folder with exactly these files, replacing an unfinished or failed one.

    Raises:
        ReportError: the folder cannot be written.
    """
    partial, final = root / f"{_PARTIAL}{run_id}", root / run_id
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except OSError as error:
        raise ReportError(
            f"cannot write {final}: {error.strerror or error}; check space and permissions"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_unfinished(root: Path) -> None:
    """Removes what a killed training left half-written."""
    for path in (*root.glob(f"{_PARTIAL}*"), root / INPUTS_FOLDER):
        shutil.rmtree(path, ignore_errors=True)


def write_file(path: Path, data: bytes) -> None:
    """Writes a file completely or not at all. Raises ReportError if it cannot be written."""
    try:
        write_atomically(path, data)
    except LabelsetError as error:
        raise ReportError(str(error)) from error


def read_grid(root: Path) -> Grid:
    """Everything the report needs.

    Raises:
        ReportError: there is no grid in `root`, or one of its files is damaged.
    """
    path = root / GRID_FILE
    if not path.is_file():
        raise ReportError(
            f"{root} does not hold a grid ({GRID_FILE} is missing); make one with: synthgrid grid"
        )
    info = read_json_file(path)
    try:
        entries = [
            {
                **{name: str(each[name]) for name in _RUN_TEXTS},
                "ratio": float(each["ratio"]),
                "seed": int(each["seed"]),
            }
            for each in info["runs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            f"{path} is damaged ({error!r}); run the same grid command again"
        ) from error
    return Grid(root=root, info=info, runs=tuple(_read_run(root, entry) for entry in entries))


def _read_run(root: Path, entry: Mapping[str, Any]) -> Run:
    run_id = entry["run_id"]
    folder = root / run_id
    config = read_json_file(folder / "config.json") if (folder / "config.json").is_file() else {}
    metrics = read_json_file(folder / "metrics.json") if is_done(root, run_id) else {}
    error = ""
    if not metrics and (folder / ERROR_FILE).is_file():
        error = (folder / ERROR_FILE).read_text(encoding="utf-8", errors="replace").strip()
    return Run(**entry, metrics=metrics, config=config, error=error)


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a grid. Raises ReportError if it is damaged or missing."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{path} cannot be read ({error}); delete its folder and run the same grid command "
            "again"
        ) from error
    if not isinstance(values, dict):
        raise ReportError(
            f"{path} is damaged: expected a JSON object; delete its folder and run the grid again"
        )
    return values


def predictions_file(test: str = "") -> str:
    """The name of the file with a run's predictions, of a further test set if it has a name."""
    return f"predictions-{test}.csv" if test else "predictions.csv"


def read_predictions(root: Path, run_id: str, test: str = "") -> list[Prediction]:
    """A run's predictions on a test set. Raises ReportError if they are damaged or missing."""
    path = root / run_id / predictions_file(test)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                Prediction(
                    row["file"],
                    row["true"],
                    row["predicted"],
                    float(row["p_predicted"]),
                    float(row["p_true"]),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ReportError(
            f"{path} cannot be read ({error!r}); delete its folder and run the grid again"
        ) from error


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """UTF-8 CSV with LF line ends on every system, so that equal results give equal bytes."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8", errors="surrogatepass")


def to_json(values: object) -> bytes:
    """Indented JSON; non-ASCII letters are not escaped."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode(
        "utf-8", errors="surrogatepass"
    )

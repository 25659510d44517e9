"""The report of a grid that still trains: how far it is, and its scores so far. No torch.

The page takes the place of report.html until the grid ends, and loads itself again meanwhile. It
needs no server and asks for nothing else. It has means but no comparison: see `PRELIMINARY`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.metrics import METRICS
from trainer.errors import TrainerError
from trainer.report.html import document, group_row, section, table, text
from trainer.report.page import REPORT_FILE
from trainer.report.wording import arm_title, budget_note, counted, metric_value
from trainer.runs import Grid, Run, read_grid, write_file

logger = logging.getLogger(__name__)
PRELIMINARY = (
    "Preliminary: verdicts, intervals and p-values come with the last training, since looking at "
    "them in between and stopping when they please raises the rate of false alarms."
)
RELOAD_S = 5
# Of the time of a grid, at most this share goes into the page. Our choice.
_SHARE = 0.02
_METRICS = ("accuracy", HEADLINE_METRIC)


class LiveReport:
    """Writes the page as runs end; a context manager around the grid. After an error the page says
    that the training was stopped, and no longer loads itself again.

    It is written at most every `every_s` seconds, less often where writing takes long. `clock`
    gives seconds. A page that cannot be written is one warning; the grid goes on without it.
    """

    def __init__(
        self,
        root: Path,
        *,
        every_s: float = RELOAD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._every_s, self._clock = root, every_s, clock
        self._pending: list[str] = []
        self._ended: list[str] = []
        self._started_s = self._next_s = clock()
        self._works = True

    def begins(self, root: Path, pending: Sequence[str]) -> None:
        """See Watcher."""
        self._pending, self._ended = list(pending), []
        self._started_s = self._clock()
        if pending:
            self._write()

    def run_ended(self, run_id: str) -> None:
        """See Watcher."""
        self._ended.append(run_id)
        if self._works and self._clock() >= self._next_s:
            self._write()

    def __enter__(self) -> LiveReport:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._pending:
            self._write(is_stopped=True)

    def _write(self, *, is_stopped: bool = False) -> None:
        began_s = self._clock()
        try:
            grid = read_grid(self._root)
            left_s = seconds_left(grid, self._pending, self._ended, began_s - self._started_s)
            page = live_html(grid, left_s=left_s, is_stopped=is_stopped)
            write_file(self._root / REPORT_FILE, page.encode("utf-8", errors="xmlcharrefreplace"))
        except TrainerError as error:
            self._works = False
            logger.warning("--live: %s; the grid goes on without the page", error)
        now_s = self._clock()
        self._next_s = now_s + max(self._every_s, (now_s - began_s) / _SHARE)


def seconds_left(
    grid: Grid, pending: Sequence[str], ended: Sequence[str], elapsed_s: float
) -> float | None:
    """About how long those of `pending` take that have not `ended`; None before the first has.

    A run is expected to take as long as the mean of its cell's finished runs, or of its model's, or
    of all. How many run side by side follows from what was done in `elapsed_s`.
    """
    runs = {run.run_id: run for run in grid.runs}
    means = _mean_seconds(grid)

    def expected_s(run_id: str) -> float:
        run = runs[run_id]
        return next((means[key] for key in _kinds(run) if key in means), 1.0)

    done_s = sum(map(expected_s, ended))
    if done_s <= 0.0:
        return None
    rest = set(pending) - set(ended)
    return sum(map(expected_s, rest)) * elapsed_s / done_s


def _kinds(run: Run) -> tuple[tuple[str, ...], ...]:
    """What runs that take about as long share, the closest first."""
    return (run.model, run.arm, run.budget), (run.model,), ()


def _mean_seconds(grid: Grid) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], list[float]] = {}
    for run in grid.runs:
        if "seconds" in run.metrics:
            for kind in _kinds(run):
                found.setdefault(kind, []).append(float(run.metrics["seconds"]))
    return {kind: sum(each) / len(each) for kind, each in found.items()}


def live_html(grid: Grid, *, left_s: float | None, is_stopped: bool = False) -> str:
    """The whole page. With `is_stopped` it says so and does not load itself again."""
    name = grid.root.resolve().name
    body = _header(grid, left_s, is_stopped) + _scores(grid)
    return document(f"SynthGrid: {name}", body, reload_s=None if is_stopped else RELOAD_S)


def _header(grid: Grid, left_s: float | None, is_stopped: bool) -> str:
    done, failed = sum(run.status == "done" for run in grid.runs), grid.failed()
    state = f"{done} of {counted(len(grid.runs), 'training')} done"
    if is_stopped:
        state += "; stopped: the same command trains the rest"
    elif left_s is not None:
        state += f", about {duration(left_s)} left"
    alerts = [PRELIMINARY, *(f"failed: {each.run_id}: {each.error}" for each in failed)]
    items = "".join(f"<li>{text(each)}</li>" for each in alerts)
    return (
        f'<header><p class="kicker">SynthGrid report · {text(grid.root.resolve().name)}</p>'
        f"<h1>{text(state)}</h1>"
        f'<progress max="{len(grid.runs)}" value="{done}" style="width:100%"></progress>'
        f'<ul class="alerts">{items}</ul>'
        f'<p class="note">Written at {time.strftime("%H:%M:%S")}.</p></header>'
    )


def _scores(grid: Grid) -> str:
    cells: dict[CellKey, list[Run]] = {}
    for run in grid.runs:
        key = CellKey(run.model, run.arm, run.budget, run.regime, run.ratio, run.source)
        cells.setdefault(key, []).append(run)
    titles = "".join(f"<th>{text(METRICS[name])}</th>" for name in _METRICS)
    head = f"<tr><th>Trained on</th><th>Trainings done</th>{titles}</tr>"
    note = (
        "Means on the test images, in percent, of the trainings that are done. Cells differ in how "
        "many those are, so their means are not yet comparable."
    )
    return section("Scores so far", table(head, _rows(grid, cells), kind="grid"), note=note)


def _rows(grid: Grid, cells: Mapping[CellKey, Sequence[Run]]) -> Iterator[str]:
    for model in dict.fromkeys(key.model for key in cells):
        yield group_row(text(grid.info["models"][model]["title"]), columns=2 + len(_METRICS))
        for key, runs in cells.items():
            if key.model == model:
                done = [run for run in runs if run.metrics]
                scores = "".join(f"<td>{_mean(done, name)}</td>" for name in _METRICS)
                title = text(arm_title(grid, key) + budget_note(key))
                yield f"<tr><td>{title}</td><td>{len(done)} of {len(runs)}</td>{scores}</tr>"


def _mean(runs: Sequence[Run], metric: str) -> str:
    found = [float(run.metrics[metric]) for run in runs if metric in run.metrics]
    return metric_value(metric, sum(found) / len(found)) if found else ""


def duration(seconds: float) -> str:
    """A time in words, rounded: "less than a minute", "3 minutes", "2.5 hours"."""
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 100:
        return counted(round(minutes), "minute")
    return f"{minutes / 60:.1f} hours"

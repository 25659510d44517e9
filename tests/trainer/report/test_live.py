"""grid --live: a page that loads itself again while a grid trains.

Covers: trainer.grid.watching.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.grid import run_grid
from trainer.report import REPORT_FILE
from trainer.report.live import PRELIMINARY, LiveReport, duration, live_html, seconds_left
from trainer.runs import read_grid

UNFINISHED = {"real/both": [0.6, 0.7, None, None], "add:1/updates": [0.8, None, None, None]}


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def unfinished(make_grid: Callable[..., Path], tmp_path: Path) -> Path:
    return make_grid(tmp_path / "grid", UNFINISHED)


def ids(root: Path, status: str) -> list[str]:
    return [run.run_id for run in read_grid(root).runs if run.status == status]


def test_the_page_says_how_far_it_is_and_has_means_but_no_verdict(unfinished: Path) -> None:
    page = live_html(read_grid(unfinished), left_s=130.0)
    assert "3 of 8 trainings done, about 2 minutes left" in page
    assert "<td>2 of 4</td>" in page
    assert "<td>1 of 4</td>" in page
    scores = [run.metrics["accuracy"] for run in read_grid(unfinished).runs if run.metrics]
    assert f"<td>{50 * (scores[0] + scores[1]):.1f}</td>" in page
    assert PRELIMINARY in page
    assert 'class="verdict' not in page
    assert "95%" not in page


def test_the_page_loads_itself_again_and_nothing_else(unfinished: Path) -> None:
    page = live_html(read_grid(unfinished), left_s=None)
    assert page.count('http-equiv="refresh" content="5"') == 1
    assert not re.search(r"<script|https?://|<link|src=|url\(", page)
    stopped = live_html(read_grid(unfinished), left_s=1.0, is_stopped=True)
    assert "refresh" not in stopped
    assert "3 of 8 trainings done; stopped: the same command trains the rest" in stopped


def test_a_failed_run_is_named_and_what_users_wrote_is_text(unfinished: Path) -> None:
    failed = ids(unfinished, "missing")[0]
    (unfinished / failed).mkdir()
    (unfinished / failed / "error.txt").write_text("<b>diverged</b>")
    assert f"failed: {failed}: &lt;b&gt;diverged&lt;/b&gt;" in live_html(
        read_grid(unfinished), left_s=None
    )


def test_the_page_is_written_at_once_then_at_most_every_few_seconds(unfinished: Path) -> None:
    clock, page = Clock(), unfinished / REPORT_FILE
    live = LiveReport(unfinished, every_s=5.0, clock=clock)
    pending = ids(unfinished, "missing")
    live.begins(unfinished, pending)
    assert page.is_file()
    page.write_text("old")
    clock.now += 4.9
    live.run_ended(pending[0])
    assert page.read_text() == "old"
    clock.now += 0.1
    live.run_ended(pending[1])
    assert "about" in page.read_text()


def test_a_page_that_takes_long_to_write_is_written_less_often(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, page = Clock(), unfinished / REPORT_FILE

    def slow(root: Path) -> object:
        clock.now += 1.0
        return read_grid(root)

    monkeypatch.setattr("trainer.report.live.read_grid", slow)
    live = LiveReport(unfinished, clock=clock)
    live.begins(unfinished, pending := ids(unfinished, "missing"))
    page.write_text("old")
    clock.now += 49.9
    live.run_ended(pending[0])
    assert page.read_text() == "old"
    clock.now += 0.1
    live.run_ended(pending[1])
    assert page.read_text() != "old"


def test_time_left_weighs_runs_by_what_their_cell_takes(
    make_grid: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_grid(tmp_path / "grid", UNFINISHED)
    grid = read_grid(root)
    took = {"real": 10.0, "add:1": 30.0}
    runs = tuple(
        replace(run, metrics={**run.metrics, "seconds": took[run.arm]}) if run.metrics else run
        for run in grid.runs
    )
    grid = replace(grid, runs=runs)
    real, added = runs[0].run_id, runs[4].run_id
    rest = [run.run_id for run in runs if not run.metrics]
    # Two processes: runs of 10 + 30 seconds took 20. 2 x 10 + 3 x 30 seconds of work are left.
    assert seconds_left(grid, [real, added, *rest], [real, added], 20.0) == pytest.approx(55.0)
    assert seconds_left(grid, rest, [], 20.0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59, "less than a minute"),
        (61, "1 minute"),
        (600, "10 minutes"),
        (9000, "2.5 hours"),
    ],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_unwritable_page_is_one_warning_and_the_grid_goes_on(
    unfinished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (unfinished / REPORT_FILE).mkdir()
    clock = Clock()
    live = LiveReport(unfinished, every_s=0.0, clock=clock)
    live.begins(unfinished, pending := ids(unfinished, "missing"))
    for run_id in pending:
        live.run_ended(run_id)
    assert len(caplog.records) == 1
    assert "the grid goes on without the page" in caplog.text


class Stop:
    """Ends a grid after its first run, as Ctrl-C does."""

    def begins(self, root: Path, pending: object) -> None:
        pass

    def run_ended(self, run_id: str) -> None:
        raise KeyboardInterrupt


def test_stopped_then_resumed_the_final_report_takes_the_place_of_the_page(
    real: Path, synthetic: Path, tmp_path: Path
) -> None:
    arguments = ["--real", real, "--synthetic", synthetic, "--out", tmp_path / "grid"]
    config = GridConfig(
        *map(str, (real, tmp_path / "grid", synthetic)),
        models=("cnn",),
        recipe="classic",
        ratios=(0.0, 2.0),
        seeds=1,
        image_size_px=32,
        updates=6,
        device="cpu",
        budgets=("updates",),
    )
    page = tmp_path / "grid" / REPORT_FILE
    with pytest.raises(KeyboardInterrupt), LiveReport(Path(config.out)) as live:
        run_grid(config, (live, Stop()))
    assert "1 of 2 trainings done; stopped" in page.read_text()
    arguments += ["--models", "cnn", "--recipe", "classic", "--seeds", 1, "--ratios", "0,2"]
    arguments += ["--image-size", 32, "--updates", 6, "--device", "cpu", "--budgets", "updates"]
    assert main(["grid", *map(str, arguments), "--live"]) == 0
    assert "Do synthetic images help?" in page.read_text()
    assert "refresh" not in page.read_text()


def test_a_grid_with_nothing_to_train_keeps_its_report(
    make_grid: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_grid(tmp_path / "grid", {"real/both": [0.6]})
    with LiveReport(root) as live:
        live.begins(root, [])
    assert not (root / REPORT_FILE).exists()

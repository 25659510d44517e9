"""grid --log: finished runs and the report in a tracker of experiments.

Covers: trainer.tracking.tensorboard_log, trainer.tracking.mlflow_log, trainer.tracking.wandb_log,
trainer.tracking.trackio_log.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.grid.watching import Watcher
from trainer.runs import Grid, read_grid, read_json_file, write_run
from trainer.tracking import KINDS, Tracked, open_tracker
from trainer.tracking.tracker import config_of, project_name, scores_of


class Fake:
    """A tracker that keeps what it is given; after `good` runs it fails."""

    def __init__(self, good: int = 99) -> None:
        self.runs: dict[str, tuple[dict[str, object], Mapping[str, float]]] = {}
        self.reports: list[tuple[Path, str]] = []
        self.good = good

    def add_run(self, name: str, config: dict[str, object], scores: Mapping[str, float]) -> None:
        if len(self.runs) == self.good:
            raise ConnectionError("no route\nto host")
        print("a tracker that talks")
        self.runs[name] = (config, scores)

    def add_report(self, page: Path, summary: str) -> None:
        self.reports.append((page, summary))


@pytest.fixture
def root(make_grid: Callable[..., Path], tmp_path: Path) -> Path:
    return make_grid(tmp_path / "grid", {"real/both": [0.6, 0.7], "add:1/updates": [0.8, None]})


def test_runs_are_handed_over_once_with_configuration_and_scores(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    tracked = Tracked("wandb", lambda: fake)
    tracked.begins(root, [])
    assert sorted(fake.runs) == [
        "cnn-add-1-updates-seed0",
        *(f"cnn-real-both-seed{n}" for n in (0, 1)),
    ]
    config, scores = fake.runs["cnn-add-1-updates-seed0"]
    assert (config["arm"], config["seed"]) == ("add:1", 0)
    assert 0.7 < scores["accuracy"] < 0.9
    assert capsys.readouterr().out == ""
    missing = next(run.run_id for run in read_grid(root).runs if not run.metrics)
    write_run(root, missing, {"config.json": b"{}", "metrics.json": b'{"f1": 0.5}', "DONE": b""})
    tracked.run_ended(missing)
    assert fake.runs[missing][1] == {"f1": 0.5}
    again = Fake()
    Tracked("wandb", lambda: again).begins(root, [])
    assert again.runs == {}
    other = Fake()
    Tracked("mlflow", lambda: other).begins(root, [])
    assert len(other.runs) == 4


def test_a_failing_tracker_is_one_warning_and_is_caught_up_with_later(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = Tracked("mlflow", lambda: Fake(good=1))
    tracked.begins(root, [])
    tracked.run_ended("any")
    tracked.report(root / "report.html", "")
    assert [each.getMessage() for each in caplog.records] == [
        "--log mlflow: no route; the grid goes on without it"
    ]
    rest = Fake()
    Tracked("mlflow", lambda: rest).begins(root, [])
    assert len(rest.runs) == 2


def test_configurations_and_scores_are_flat(root: Path) -> None:
    run = read_grid(root).runs[0]
    run = type(run)(
        **{
            **vars(run),
            "config": {"training": {"rate": 0.1, "none": None}, "classes": ["a", "b"]},
            "metrics": {"f1": 0.5, "dtype": "float32", "tests": {"art": {"f1": 0.2}}},
        }
    )
    assert config_of(run) == {
        "training.rate": 0.1,
        "classes": "['a', 'b']",
        "model": "cnn",
        "arm": "real",
        "budget": "both",
        "seed": 0,
    }
    assert scores_of(run) == {"f1": 0.5, "tests/art/f1": 0.2}
    assert project_name(Path("/runs/a b:c/猫-1.2")) == "猫-1.2"
    assert project_name(Path("/runs/a b:c")) == "a-b-c"


def test_the_command_hands_over_runs_and_report(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()

    def trained(config: GridConfig, watchers: Sequence[Watcher]) -> Grid:
        for watcher in watchers:
            watcher.begins(Path(config.out), [])
        return read_grid(root)

    monkeypatch.setattr("trainer.commands.grid.import_module", lambda name: None)
    monkeypatch.setattr("trainer.commands.grid.open_tracker", lambda kind, root: fake)
    monkeypatch.setattr("trainer.grid.sequential.run_whole_grid", trained)
    arguments = ["--real", tmp_path, "--synthetic", tmp_path, "--out", root, "--log", "wandb"]
    assert main(["grid", *map(str, arguments)]) == 0
    assert len(fake.runs) == 3
    [(page, summary)] = fake.reports
    assert page == root / "report.html"
    assert "real only" in summary


def test_a_missing_library_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    from synthgrid.__main__ import main as front_door

    arguments = ["--real", tmp_path, "--synthetic", tmp_path, "--out", tmp_path / "g"]
    assert front_door(["grid", *map(str, arguments), "--log", "wandb"]) == 1
    assert "[wandb]" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_no_tracker_is_imported_unless_asked() -> None:
    code = (
        "import sys, trainer.tracking, trainer.commands.grid; "
        f"print(set({KINDS!r}) & set(sys.modules), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert done.stdout.strip() == "set() False"


@pytest.mark.filterwarnings("ignore")  # its own
def test_tensorboard_has_the_scores_and_the_report(root: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked = Tracked("tensorboard", lambda: open_tracker("tensorboard", root))
    tracked.begins(root, [])
    tracked.report(root / "report.html", "it helps")
    events = EventAccumulator(str(root / "tensorboard" / "cnn-real-both-seed1"))
    events.Reload()
    [accuracy] = events.Scalars("accuracy")
    stored = read_json_file(root / "cnn-real-both-seed1" / "metrics.json")
    assert accuracy.value == pytest.approx(stored["accuracy"])
    report = EventAccumulator(str(root / "tensorboard" / "report"))
    report.Reload()
    assert b"it helps" in report.Tensors("report/text_summary")[0].tensor_proto.string_val[0]

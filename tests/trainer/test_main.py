"""The command line: real processes, exit codes, one clear line for a user's mistake, and a kill in
the middle.

Covers: trainer.__main__, trainer.commands.grid, trainer.commands.grid_options,
trainer.commands.parsing, trainer.commands.report, trainer.commands.sample_data, trainer.errors.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.__main__ import main


def grid_arguments(real: Path, synthetic: Path, out: Path, *more: str) -> list[str]:
    arguments = [
        "grid",
        "--real",
        real,
        "--synthetic",
        synthetic,
        "--out",
        out,
        "--models",
        "cnn",
        "--ratios",
        "0,1",
        "--budgets",
        "updates",
    ]
    return [*map(str, arguments), "--image-size", "32", "--updates", "6", "--device", "cpu", *more]


def quick_arguments(real: Path, synthetic: Path, out: Path, *more: str) -> list[str]:
    """Without further tries of trainings that stay at chance, where so few updates leave them."""
    return grid_arguments(real, synthetic, out, "--quick", *more)


def test_sample_data_to_report_in_three_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits, aside, runs = (str(tmp_path / name) for name in ("d", "aside", "runs"))
    counts = ["--train", "2", "--test", "2"]
    assert main(["sample-data", "--out", digits, *counts, "--set-aside", aside]) == 0
    assert "20 training and 20 test images" in capsys.readouterr().out
    assert main(quick_arguments(Path(digits), Path(aside), Path(runs), "--seeds", "1")) == 0
    shown = capsys.readouterr().out
    assert "Small CNN" in shown
    assert str(Path(runs, "report.html")) in shown
    assert main(["report", runs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["status"] == "done"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--ratios", "0,9"], "needs 54"),
        (["--ratios", "1"], "start at 0"),
        (["--models", "cnn,vgg"], "model 'vgg' is unknown"),
        (["--real", "nowhere"], "is not a folder"),
        (["--synthetic", "nowhere"], "synthgrid run"),
        (["--models", "resnet50"], "--allow-untrained"),
        (["--models", "resnet50", "--weights", "gone.pth"], "gone.pth does not exist"),
        (["--image-size", "8"], "at least 32"),
        (["--config", "gone.json"], "cannot read the config"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    real: Path,
    synthetic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    change: list[str],
    message: str,
) -> None:
    arguments = grid_arguments(
        real, tmp_path / "nowhere" if "--synthetic" in change else synthetic, tmp_path / "out"
    )
    assert main([*arguments, *(() if "--synthetic" in change else change)]) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message in line
    assert "\n" not in line
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (
        ["grid", "--ratios", "a,b"],
        ["nonsense"],
        ["grid", "--updates", "1", "--epochs", "1"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_a_config_file_works_and_the_command_line_wins(
    real: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "real": str(real),
        "synthetic": str(synthetic),
        "models": ["cnn"],
        "ratios": [0, 1],
        "seeds": 2,
        "updates": 4,
    }
    (tmp_path / "c.json").write_text(json.dumps(values), encoding="utf-8")
    code = main(
        [
            "grid",
            "--config",
            str(tmp_path / "c.json"),
            "--out",
            str(tmp_path / "o"),
            "--seeds",
            "1",
            "--image-size",
            "32",
            "--quick",
            "--json",
        ]
    )
    assert code == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3


def test_the_old_spellings_of_two_options_work_but_are_not_in_the_help(
    real: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = ["--l2", "0.25", "--precision", "float32", "--ratios", "0"]
    assert main(quick_arguments(real, synthetic, tmp_path, "--seeds", "1", *old)) == 0
    (run,) = tmp_path.glob("cnn-*")
    training = json.loads((run / "config.json").read_text(encoding="utf-8"))["training"]
    assert (training["weight_decay"], training["dtype"]) == (0.25, "float32")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["grid", "--help"])
    shown = capsys.readouterr().out
    assert "--weight-decay" in shown
    assert "--dtype" in shown
    assert "--l2" not in shown
    assert "--precision" not in shown


def test_a_failed_run_is_exit_code_1(
    real: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            *quick_arguments(real, synthetic, tmp_path / "o"),
            "--learning-rate",
            "1e30",
            "--seeds",
            "1",
        ]
    )
    assert code == 1
    assert "failed" in capsys.readouterr().out


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_run(process: subprocess.Popen[str], out: Path) -> None:
    until = time.monotonic() + 90
    while not list(out.glob("cnn-*/DONE")):
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < until
        time.sleep(0.02)


def test_killed_in_the_middle_and_run_again_the_results_are_the_same_bytes(
    real: Path, synthetic: Path, tmp_path: Path
) -> None:
    whole, killed = (
        quick_arguments(real, synthetic, tmp_path / name, "--seeds", "2", "--threads", "1")
        for name in ("whole", "killed")
    )
    assert main(whole) == 0
    process = start(killed)
    wait_for_a_run(process, tmp_path / "killed")
    process.kill()
    process.communicate(timeout=30)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("cnn-*/DONE")}
    assert not (tmp_path / "killed" / "report.html").exists()
    assert main(killed) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    assert (tmp_path / "killed" / "results.csv").read_bytes() == (
        tmp_path / "whole" / "results.csv"
    ).read_bytes()
    assert not list((tmp_path / "killed").glob(".partial-*"))


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(
    real: Path, synthetic: Path, tmp_path: Path
) -> None:
    process = start(grid_arguments(real, synthetic, tmp_path / "out", "--seeds", "5"))
    wait_for_a_run(process, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continues where this one stopped" in errors
    assert "Traceback" not in errors

"""A run's folder appears complete or not at all, and damaged files are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.errors import ReportError
from trainer.runs import (
    clear_unfinished,
    is_done,
    read_grid,
    read_json_file,
    to_csv,
    to_json,
    write_run,
)


def test_a_run_is_done_when_its_folder_has_the_marker(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"error.txt": b"no luck"})
    assert not is_done(tmp_path, "a")
    write_run(tmp_path, "a", {"metrics.json": b"{}", "DONE": b""})
    assert is_done(tmp_path, "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"metrics.json", "DONE"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_kill_left_is_cleared_and_finished_runs_stay(tmp_path: Path) -> None:
    for name in (".partial-b", ".inputs"):
        (tmp_path / name).mkdir()
    write_run(tmp_path, "a", {"DONE": b""})
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReportError, match=r"cannot write .*check space and permissions"):
        write_run(tmp_path / "file", "a", {"DONE": b""})


def test_the_baselines_runs_count_in_either_budget(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    grid = read_grid(make_grid(tmp_path, {"real/both": [0.5, None], "add:1/epochs": [0.5, 0.5]}))
    assert [run.status for run in grid.runs] == ["done", "missing", "done", "done"]
    assert len(grid.of("cnn", "real", "updates")) == len(grid.of("cnn", "real", "epochs")) == 1
    assert len(grid.of("cnn", "add:1", "epochs")) == 2
    assert grid.of("cnn", "add:1", "updates") == []


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read"), ("[1]", "is damaged: expected a JSON object")]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=f"x.json {message}"):
        read_json_file(tmp_path / "x.json")


def test_files_are_utf_8_with_line_feeds_on_every_system() -> None:
    assert to_csv(("a", "b"), [("猫", 'x,"y"')]) == 'a,b\n猫,"x,""y"""\n'.encode()
    assert to_json({"猫": 1}) == '{\n  "猫": 1\n}\n'.encode()

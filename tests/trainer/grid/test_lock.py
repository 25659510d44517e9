"""One grid at a time in a folder, and no grid of a synthetic folder that is still being written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from client.folder.run_folder import LOCK, RunFolder
from trainer.errors import DataError, ReportError
from trainer.grid.lock import CLIENT_LOCK, grid_locked, refuse_unfinished

HOLD = """
import runpy
import sys
from pathlib import Path
lock = runpy.run_path("trainer/grid/lock.py")  # without its package, which imports torch
with lock["grid_locked"](Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_grid_in_one_folder_is_refused_and_a_killed_one_holds_nothing(
    tmp_path: Path,
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "grid")],
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(ReportError, match=r"another grid is being trained in .*grid; wait for it"),
        grid_locked(tmp_path / "grid"),
    ):
        pass
    other.kill()
    other.communicate(timeout=30)
    with grid_locked(tmp_path / "grid"):
        pass


def test_a_folder_that_a_client_writes_is_refused_until_it_is_done(tmp_path: Path) -> None:
    assert CLIENT_LOCK == LOCK
    refuse_unfinished(tmp_path)
    client = RunFolder(tmp_path, None)  # type: ignore[arg-type]
    with client.locked(), pytest.raises(DataError, match="a client is still writing"):
        refuse_unfinished(tmp_path)
    refuse_unfinished(tmp_path)


def test_a_lock_file_that_nobody_holds_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / CLIENT_LOCK).touch()
    refuse_unfinished(tmp_path)
    assert (tmp_path / CLIENT_LOCK).is_file()

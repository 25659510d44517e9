"""A locked file is seen by other processes, and its lock ends with its process."""

import subprocess
import sys
from pathlib import Path

import comfy_nodes
from comfy_nodes.labelset import is_locked, try_lock

ROOT = Path(comfy_nodes.__file__).resolve().parents[1]
HOLDER = """
import sys
from comfy_nodes.labelset import try_lock
with open(sys.argv[1], "a+b") as file:
    print(try_lock(file), flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_holds_is_locked_until_that_process_is_killed(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as holder:
        try:
            assert holder.stdout.readline().strip() == b"True"
            assert is_locked(path)
            with path.open("r+b") as file:
                assert not try_lock(file)
        finally:
            holder.kill()
            holder.wait()
    assert not is_locked(path)
    with path.open("r+b") as file:
        assert try_lock(file)


def test_a_second_open_file_of_the_same_process_is_refused_too(tmp_path):
    path = tmp_path / "lock"
    with path.open("a+b") as first, path.open("a+b") as second:
        assert try_lock(first)
        assert not try_lock(second)


def test_asking_about_a_lock_makes_no_file(tmp_path):
    assert not is_locked(tmp_path / "lock")
    assert not list(tmp_path.iterdir())

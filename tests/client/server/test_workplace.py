"""A killed engine's temporary folder is removed by the next one, and nobody else's is touched."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from client.server import workplace
from client.server.workplace import OWNER, PREFIX, Workplace, remove_abandoned
from tests.client.helpers import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no user numbers")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(tmp_path, *, with_child):
    """A process with a workplace, killed; its child, if any, has inherited the lock."""
    code = "import subprocess, sys, time; from client.server.workplace import Workplace\n"
    code += "place = Workplace(); (place.path / 'server.log').touch()\n"
    if with_child:
        code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        code += " pass_fds=(place.owner.fileno(),), stdout=subprocess.DEVNULL)\n"
    code += f"print({'child.pid' if with_child else 0}, flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()
    return child


def test_the_folder_of_a_killed_process_is_removed(tmp_path):
    killed(tmp_path, with_child=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert remove_abandoned() == 1
    assert list(tmp_path.iterdir()) == []


def test_it_stays_while_the_engine_lives(tmp_path):
    child = killed(tmp_path, with_child=True)
    assert remove_abandoned() == 0
    os.kill(child, signal.SIGKILL)
    for _ in range(500):  # its parent is gone, so nobody here can wait for it
        if remove_abandoned():
            break
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_living_process_stays(tmp_path):
    mine = Workplace()
    assert remove_abandoned() == 0
    assert (mine.path / OWNER).exists()
    mine.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_provably_ours_stays(tmp_path):
    (tmp_path / f"{PREFIX}older").mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / OWNER).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    (tmp_path / f"{PREFIX}pipe").mkdir()
    os.mkfifo(tmp_path / f"{PREFIX}pipe" / OWNER)
    assert remove_abandoned() == 0
    assert (other / OWNER).exists()


def test_the_folder_of_another_user_stays(tmp_path, monkeypatch):
    killed(tmp_path, with_child=False)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert remove_abandoned() == 0


def test_where_files_cannot_be_locked_nothing_is_proven(tmp_path, monkeypatch):
    killed(tmp_path, with_child=False)
    monkeypatch.setattr(workplace, "try_lock", lambda file: True)
    assert remove_abandoned() == 0

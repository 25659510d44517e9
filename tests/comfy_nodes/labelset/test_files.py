"""A file is whole or absent, whatever happens while it is written."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import sha256, write_atomically
from comfy_nodes.labelset.files import read_regular


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabelsetError, match=r"cannot write .*file"):
        write_atomically(tmp_path / "file" / "image.png", b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_are_readable_for_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a.txt", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabelsetError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_written_in_pieces_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, iter([b"one ", b"two"]))
    assert path.read_bytes() == b"one two"


def test_a_hash_is_the_hexadecimal_sha256():
    assert sha256(b"bat") == hashlib.sha256(b"bat").hexdigest()


def test_a_regular_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "link") == b"text"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "pipe")


def test_a_folder_or_a_device_is_refused_and_a_missing_file_is_missing(tmp_path):
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(OSError):  # noqa: PT011 (Windows words it in its own way)
            read_regular(path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")

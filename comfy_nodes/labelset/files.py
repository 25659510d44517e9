"""Files that are either complete or absent, and their hashes. Standard library only."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

from ..errors import LabelsetError


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each half character ("\\ud800"), which UTF-8 cannot hold."""
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)


def open_regular(path: Path, mode: Literal["rb", "ab"] = "rb", *, buffering: int = -1) -> IO[bytes]:
    """A file, opened if it is a regular one: opening a pipe would wait for ever.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    return open(path, mode, buffering, opener=_regular_only)


def _regular_only(path: str, flags: int) -> int:
    # Not stat first: what is opened has to be what was looked at.
    try:
        number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe that nobody reads
            raise
    else:
        if stat.S_ISREG(os.fstat(number).st_mode):
            return number
        os.close(number)
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file. Raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, so that they survive a power cut.

    Does nothing where that cannot be asked for: on Windows and some network file systems.

    Raises:
        LabelsetError: the disk is full or broken.
    """
    if sys.platform == "win32":
        return
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise LabelsetError(
                f"cannot write {folder}: {error.strerror or error}; check the disk"
            ) from error


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Writes the whole file or nothing: temporary file beside it, fsync, rename.

    The folder is created if needed.

    Raises:
        LabelsetError: the folder cannot be written or the disk is full; no temporary file is left.
    """
    # Not tempfile.mkstemp, whose files only their owner may read: the umask should decide who may.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LabelsetError(
            f"cannot write {path}: {error.strerror or error}; check space and permissions"
        ) from error


def append_durably(path: Path, data: bytes) -> None:
    """Appends to a file all or nothing, and waits until it is on the disk. No data, no file.

    Raises:
        LabelsetError: the file cannot be written.
    """
    rest = memoryview(data)
    if not rest:
        return
    try:
        # Unbuffered, since a buffer would try again to write a refused line on closing.
        with open_regular(path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise LabelsetError(
            f"cannot write {path}: {error.strerror or error}; check space"
        ) from error

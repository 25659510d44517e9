"""Files that are either complete or absent, and their hashes. Standard library only."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import LabelsetError


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each half character ("\\ud800"), which UTF-8 cannot hold."""
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, so that they survive a power cut.

    Does nothing where that cannot be asked for: on Windows and some network file systems.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


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

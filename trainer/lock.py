"""One writer at a time for a folder. The lock dies with its process, so nothing is left to clear after a kill."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainer.errors import DataError, ReportError

logger = logging.getLogger(__name__)
GRID_LOCK = ".grid.lock"
CLIENT_LOCK = ".synthgrid.lock"  # what a client holds while it writes a labelled folder (client/folder.py)


@contextmanager
def grid_locked(root: Path) -> Iterator[None]:
    """Holds a grid's folder, making it where it is missing. The lock file stays, empty.

    Raises:
        ReportError: another process trains a grid there, or the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / GRID_LOCK).open("ab")
    except OSError as error:
        raise ReportError(f"cannot write {root}: {error.strerror or error}; check space and permissions") from error
    with file:
        if not _lock(file):
            raise ReportError(
                f"another grid is being trained in {root}; wait for it, or give another folder with --out"
            )
        yield


def refuse_unfinished(root: Path) -> None:
    """Makes sure that no client is writing this synthetic folder: a grid of half of it could not be repeated.

    What a client that was killed left is no hindrance; its unfinished last line is left out when the folder is read.

    Raises:
        DataError: a client holds the folder.
    """
    path = root / CLIENT_LOCK
    if not path.is_file():
        return
    try:
        with path.open("r+b") as file:
            free = _lock(file)
    except OSError:  # somebody else's file, or gone by now: nothing that tells of a writer
        return
    if not free:
        raise DataError(f"a client is still writing {root}; wait until it is done, or stop it, and run the grid again")


def _lock(file: IO[bytes]) -> bool:
    """Whether the file is locked now; closing it gives it up."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s); make sure that only one grid is trained there", file.name, error)
    return True

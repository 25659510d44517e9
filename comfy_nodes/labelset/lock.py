"""One writer at a time: a locked file tells everybody else to wait. The lock dies with its process. Standard library only."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

CLIENT_LOCK = ".synthgrid.lock"  # in a labelled folder: what a client holds while it writes there


def try_lock(file: IO[bytes]) -> bool:
    """Whether the open file is locked now for this process; closing it gives it up. False where another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network file systems have no locks
        log.warning(
            "%s cannot be locked (%s); make sure that only one process writes there",
            file.name,
            error,
        )
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file at this moment; changes nothing."""
    try:
        with path.open("r+b") as file:
            return not try_lock(file)
    except (
        OSError
    ):  # no lock file, or one that we may not open: whoever holds it is no process of ours
        return False

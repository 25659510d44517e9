"""One writer at a time: a locked file tells other processes to wait.

The lock ends with its process, however that ends. Standard library only.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

CLIENT_LOCK = ".synthgrid.lock"  # in a labelled folder; a client holds it while it writes there


def try_lock(file: IO[bytes], *, shared: bool = False) -> bool:
    """Tries to lock the open file; False if another process holds the lock.

    Closing the file gives the lock up. True as well on a file system without locks, with a warning.
    Shared locks do not exclude each other, where the system has them.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network file systems have no locks
        message = "%s cannot be locked (%s); make sure that only one process writes there"
        log.warning(message, file.name, error)
    return True


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file now; changes nothing.

    It is looked at for a moment under a shared lock, so a writer tries for longer than that.
    """
    try:
        with path.open("r+b") as file:
            return not try_lock(file, shared=True)
    except OSError:  # no lock file, or one that we may not open, so it is not held by our own user
        return False

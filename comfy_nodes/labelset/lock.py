"""One writer at a time: a locked file tells other processes to wait.

The lock ends with its process, however that ends. Standard library only.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import LabelsetError
from .files import open_regular

log = logging.getLogger(__name__)

CLIENT_LOCK = ".synthgrid.lock"  # in a labelled folder; a client holds it while it writes there
# Within this process: ComfyUI's saver and the panel in its sidebar change folders in turn.
TURNS = threading.Lock()
_READERS_S = 0.5  # how long a writer waits for those who only look whether the folder is locked


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Locks an existing labelled folder for this process; a dead process holds no lock.

    Raises:
        LabelsetError: another process is writing the folder, or it cannot be written.
    """
    path = root / CLIENT_LOCK
    try:
        file = open_locked(path)
    except OSError as error:
        raise LabelsetError(
            f"cannot write {root}: {error.strerror or error}; check permissions"
        ) from error
    if file is None:
        raise LabelsetError(f"another process is writing {root}; wait for it")
    try:
        yield
    finally:
        release(file, path)


def open_locked(path: Path) -> IO[bytes] | None:
    """The lock file, locked; None if another process holds it. The lock dies with its process.

    Raises:
        OSError: the lock file cannot be written.
    """
    deadline = time.monotonic() + _READERS_S
    while True:
        file = open_regular(path, "ab")
        if try_lock(file):
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        # Held, perhaps by a reader that only looks; or its last owner removed it while we opened
        # it, and locking it protects nothing.
        file.close()
        if time.monotonic() > deadline:
            return None
        time.sleep(random.uniform(0.001, 0.03))


def release(file: IO[bytes], path: Path) -> None:
    """Removes the lock file while it is still locked; Windows can only do so once it is closed."""
    with file, suppress(OSError):
        path.unlink()
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink()


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

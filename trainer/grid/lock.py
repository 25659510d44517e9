"""One writer at a time for a folder. The lock ends with its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_nodes.labelset import CLIENT_LOCK, is_locked, try_lock
from trainer.errors import DataError, ReportError

GRID_LOCK = ".grid.lock"


@contextmanager
def grid_locked(root: Path) -> Iterator[None]:
    """Locks a grid's folder, creating it if necessary. The lock file stays, empty.

    Raises:
        ReportError: another process is training a grid there, or the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / GRID_LOCK).open("ab")
    except OSError as error:
        raise ReportError(
            f"cannot write {root}: {error.strerror or error}; check space and permissions"
        ) from error
    with file:
        if not try_lock(file):
            raise ReportError(
                f"another grid is being trained in {root}; wait for it, or choose another folder "
                "with --out"
            )
        yield


def refuse_unfinished(root: Path) -> None:
    """Makes sure that no client is writing this synthetic folder: what is made from half of it
    could not be repeated.

    What a killed client left behind does no harm: its unfinished last line is left out when the
    folder is read.

    Raises:
        DataError: a client holds the folder.
    """
    if is_locked(root / CLIENT_LOCK):
        raise DataError(
            f"a client is still writing {root}; wait until it has finished, or stop it, then run "
            "this again"
        )

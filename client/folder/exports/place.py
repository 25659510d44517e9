"""A new folder that gets its name once it is complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import FolderError


@contextmanager
def new_folder(out: Path, *, apart_from: Path) -> Iterator[Path]:
    """Gives an empty folder beside `out`, which is renamed to `out` at the end if all went well.

    After an error it is removed again; a kill leaves it behind as ".<name>.<random>.part".

    Raises:
        FolderError: `out` holds something, lies inside the folder `apart_from`, or cannot be
            written.
    """
    out = out.expanduser().resolve()
    if out.is_relative_to(apart_from.expanduser().resolve()):
        raise FolderError(f"{out} lies inside {apart_from}; choose another folder with --out")
    part = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise FolderError(
                f"{out} already exists and is left as it is; choose a new folder with --out"
            )
        part.mkdir(parents=True)
        try:
            yield part
            _wait_for_disk()
            if out.exists():
                out.rmdir()  # Windows renames onto nothing that exists
            part.rename(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise FolderError(
            f"cannot write {out}: {error.strerror or error}; check space and permissions"
        ) from error


def _wait_for_disk() -> None:
    """Once for all files, before the name says that they are complete: one wait a file would take
    longer than writing them.
    """
    if hasattr(os, "sync"):
        os.sync()

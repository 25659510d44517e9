"""The temporary folder of an embedded engine, and removal of those that killed ones left behind.

<temporary folder>/synthgrid-embedded-XXXXXXXX/.owner    locked while client or engine lives
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import IO

from comfy_nodes.labelset import try_lock

log = logging.getLogger(__name__)

PREFIX = "synthgrid-embedded-"
OWNER = ".owner"


class Workplace:
    """A new temporary folder. `owner` is its lock file: a child that inherits it holds it too."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        unlocked = self.path / f"{OWNER}.new"  # only a locked file ever has the name that is tried
        self.owner: IO[bytes] = unlocked.open("xb")
        try_lock(self.owner)
        if os.name != "nt":  # where an open file cannot be renamed
            unlocked.rename(self.path / OWNER)

    def remove(self) -> None:
        """Removes the folder with everything in it."""
        self.owner.close()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned() -> int:
    """Removes such folders of ours whose client and engine were both killed; returns how many.

    A folder counts only if it belongs to this user and its lock file is there and free.
    """
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _is_abandoned(path):
            log.debug("removing %s, which a killed engine left behind", path)
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _is_abandoned(path: Path) -> bool:
    owner = path / OWNER
    try:
        for each, is_right in ((path, stat.S_ISDIR), (owner, stat.S_ISREG)):
            found = each.lstat()
            if not is_right(found.st_mode) or found.st_uid != os.getuid():
                return False
        with owner.open("rb") as file, owner.open("rb") as other:
            # The second is refused, unless this file system has no locks: then nothing is proven.
            return try_lock(file) and not try_lock(other)
    except (OSError, AttributeError):  # gone meanwhile, or Windows, which has no user numbers
        return False

"""A disk that fails: the n-th call that changes something fails, writes little, or is the last one.

    disk = FailingDisk(base, at=7, how="cut")
    with disk, suppress(PowerCut): work()
    disk.after_power_cut(elsewhere, rng)

It stands between Python and the operating system: `open` for writing, `write`, `truncate`, `fsync`,
`rename`, `unlink` and `mkdir` below `base` are counted, whichever thread calls them.

After a power cut, the data of a file is what it was at its last fsync, or anything on the way to
what was written since: the beginning of it, with or without zeros behind. The names in folders are
those of some moment between the last fsync of a folder and the cut: changes of names reach the disk
in order, but late, as on the journalling file systems in use. fsync itself waits for nothing here.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

KINDS = ("enospc", "eio", "full", "dead", "short", "cut")


class PowerCut(BaseException):
    """From now on nothing reaches the disk."""


class FailingDisk:
    """Fails at call number `at`, counted from 1.

    `how`: "enospc" and "eio" fail once; "full" fails from then on, except that deleting and
    shortening work; "dead" fails from then on, always; "short" writes half, and the next write
    fails; "cut" is a power cut.
    """

    def __init__(self, base, *, at=0, how="cut"):
        self.base, self.at, self.how = Path(base).resolve(), at, how
        self.calls = 0
        self.names = []  # of the calls
        self._short = False  # whether the write after a short one has failed
        self._lock = threading.RLock()
        self._synced = {}  # inode -> data at its last fsync
        self._journal = []  # changes of names, in order: [(path, inode, "dir" or None if gone)]
        self._safe = 0  # how many of them are surely on the disk
        self._begin = {}
        self._gone = {}  # inode -> its data when its name was taken away
        self._held = []  # files kept open, so that their inodes are not used again

    def __enter__(self):
        for path in (self.base, *self.base.rglob("*")):
            self._begin[path] = "dir" if path.is_dir() else path.stat().st_ino
            if path.is_file():
                self._synced[path.stat().st_ino] = path.read_bytes()
        self._real = {
            name: getattr(os, name) for name in ("fsync", "replace", "rename", "unlink", "mkdir")
        }
        self._open = io.open
        self._stack = ExitStack()
        for module in (io, builtins):
            self._stack.enter_context(mock.patch.object(module, "open", self._opened))
        for name in self._real:
            replacement = getattr(self, f"_os_{name}")
            self._stack.enter_context(mock.patch.object(os, name, replacement))
        return self

    def __exit__(self, *_):
        self._stack.close()
        for file in self._held:
            file.close()

    def _inside(self, path):
        try:
            return Path(path).absolute().is_relative_to(self.base)
        except TypeError:
            return False

    def call(self, name, *, frees=False):
        """Counts a call; raises if it is to fail. Returns whether it shall write only half."""
        with self._lock:
            self.calls += 1
            self.names.append(name)
            over = self.at and self.calls > self.at
            if not self.at or self.calls < self.at:
                return False
            if self.how == "cut":
                raise PowerCut
            if self.how == "short" and not over and name == "write":
                return True
            if self.how == "short" and over and name == "write" and not self._short:
                self._short = True
            elif (over and self.how in ("enospc", "eio", "short")) or (
                frees and self.how == "full"
            ):
                return False
            number = errno.EIO if self.how in ("eio", "dead") else errno.ENOSPC
            raise OSError(number, os.strerror(number))

    def _keep(self, path):
        if path.is_file():
            self._held.append(self._open(path, "rb"))
            self._gone[path.stat().st_ino] = path.read_bytes()

    def _note(self, *changes):
        self._journal.append(changes)

    def _opened(self, path, mode="r", buffering=-1, *args, opener=None, **more):
        writes = set(mode) & set("wax+")
        if not writes or not isinstance(path, (str, os.PathLike)) or not self._inside(path):
            return self._open(path, mode, buffering, *args, opener=opener, **more)
        with self._lock:
            self.call("open")
            place = Path(path).absolute()
            is_new = not os.path.lexists(place)
            file = _File(self, path, mode.replace("b", ""), opener)
            if is_new:
                self._note((place, os.fstat(file.fileno()).st_ino))
        if buffering == 0:
            return file
        buffered = io.BufferedWriter(file)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")

    def _os_fsync(self, number):
        with self._lock:
            self.call("fsync")
            found = os.fstat(number)
            if stat.S_ISDIR(found.st_mode):
                self._safe = len(self._journal)
                return
            with self._open(f"/proc/self/fd/{number}", "rb") as file:
                self._synced[found.st_ino] = file.read()

    def _os_replace(self, source, target, **more):
        if not self._inside(source):
            return self._real["replace"](source, target, **more)
        with self._lock:
            self.call("rename")
            source, target = Path(source).absolute(), Path(target).absolute()
            kind = "dir" if source.is_dir() else source.stat().st_ino
            self._keep(target)
            self._real["replace"](source, target, **more)
            self._note((target, kind), (source, None))

    _os_rename = _os_replace

    def _os_unlink(self, path, **more):
        if more.get("dir_fd") is not None or not self._inside(path):
            return self._real["unlink"](path, **more)
        with self._lock:
            if not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
            self.call("unlink", frees=True)
            self._keep(Path(path))
            self._real["unlink"](path)
            self._note((Path(path).absolute(), None))

    def _os_mkdir(self, path, *args, **more):
        if more.get("dir_fd") is not None or not self._inside(path):
            return self._real["mkdir"](path, *args, **more)
        with self._lock:
            if os.path.lexists(path) or not Path(path).parent.exists():
                return self._real["mkdir"](path, *args, **more)
            self.call("mkdir")
            self._real["mkdir"](path, *args, **more)
            self._note((Path(path).absolute(), "dir"))

    def after_power_cut(self, target, rng):
        """Writes into `target` what is on the disk after a cut: one of the many possibilities."""
        kept = rng.randint(self._safe, len(self._journal))
        names = dict(self._begin)
        for changes in self._journal[:kept]:
            names.update(changes)
        latest = self._gone | {
            path.stat().st_ino: path.read_bytes() for path in self.base.rglob("*") if path.is_file()
        }
        for path, kind in sorted(names.items()):
            place = target / path.relative_to(self.base)
            if kind == "dir":
                place.mkdir(parents=True, exist_ok=True)
            elif kind is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self._data(kind, latest, rng))

    def _data(self, inode, latest, rng):
        synced = self._synced.get(inode, b"")
        data = latest.get(inode, synced)
        if data == synced:
            return data
        if not data.startswith(synced):  # shortened again, after a failed write
            return rng.choice([synced, data])
        end = rng.choice([len(synced), len(data), rng.randint(len(synced), len(data))])
        return data[:end] + bytes(rng.choice([0, 0, len(data) - end]))


class _File(io.FileIO):
    def __init__(self, disk, path, mode, opener):
        self._disk = disk
        super().__init__(path, mode, opener=opener)

    def write(self, data):
        with self._disk._lock:
            half = self._disk.call("write")
            return super().write(bytes(data)[: max(1, len(data) // 2)] if half else data)

    def truncate(self, size=None):
        with self._disk._lock:
            self._disk.call("truncate", frees=True)
            return super().truncate(size)

"""Compact sets of rows and file names, so that a folder of a million images takes little memory."""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import LabelsetError
from .images.imagefile import SUFFIXES

_KINDS = tuple(SUFFIXES.values())
_USUAL = re.compile(
    rf"([^/]*)/(.*)-(\d{{6}}|[1-9]\d{{6,17}})({'|'.join(map(re.escape, _KINDS))})",
    re.ASCII | re.DOTALL,
)
# Rows are kept in pages, so that one record of row 10**12 takes as little as one of row 0, and so
# does one each of a thousand plans.
_ROWS = 256
_NAMES = 128
_CLAIMED = 2**31


class RowSet:
    """A set of keys (plan_id, index): two bytes a key where indices follow one another, at most
    a page for a key alone.
    """

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], bytearray] = {}

    def add(self, key: tuple[str, int]) -> None:
        """Adds a key; it may already be in the set."""
        page, place = divmod(key[1], _ROWS)
        flags = self._pages.get((key[0], page))
        if flags is None:
            flags = self._pages[key[0], page] = bytearray(_ROWS)
        flags[place] = 1

    def discard(self, key: tuple[str, int]) -> None:
        """Removes a key, if it is in the set."""
        if key in self:
            page, place = divmod(key[1], _ROWS)
            self._pages[key[0], page][place] = 0

    def __contains__(self, key: tuple[str, int]) -> bool:
        page, place = divmod(key[1], _ROWS)
        flags = self._pages.get((key[0], page))
        return flags is not None and flags[place] == 1

    def __len__(self) -> int:
        return sum(flags.count(1) for flags in self._pages.values())

    def plan_ids(self) -> set[str]:
        """The plans with at least one key in the set."""
        return {plan_id for (plan_id, _), flags in self._pages.items() if 1 in flags}

    def count(self, plan_id: str, below: int) -> int:
        """How many keys of a plan have an index in 0..below-1."""
        return sum(
            flags.count(1, 0, min(max(below - page * _ROWS, 0), _ROWS))
            for (each, page), flags in self._pages.items()
            if each == plan_id and page >= 0
        )


class FileNames:
    """File names "<folder>/<plan_id>-<index>.<kind>": six bytes a name where indices follow one
    another, at most a page for a name alone.

    Any other name is kept as text. Each name can be claimed once; iterating gives those that have
    not been claimed, in no particular order.
    """

    def __init__(self) -> None:
        self._folders: dict[str, int] = {}
        # (plan_id, page) -> for each index 0, or 1 + folder number * kinds + kind number
        self._pages: dict[tuple[str, int], array[int]] = {}
        self._others: dict[str, bool] = {}  # name -> claimed

    def add(self, name: str) -> None:
        """Adds a name that has not been added yet."""
        plan_id, index, code = self._coded(name, new=True)
        if not code:
            self._others[name] = False
            return
        page, place = divmod(index, _NAMES)
        codes = self._pages.get((plan_id, page))
        if codes is None:
            codes = self._pages[plan_id, page] = array("I", bytes(_NAMES * array("I").itemsize))
        if codes[place]:
            self._others[name] = False
        else:
            codes[place] = code

    def claim(self, name: str) -> bool | None:
        """True the first time, False afterwards, None if there is no such name."""
        if name in self._others:
            claimed, self._others[name] = self._others[name], True
            return not claimed
        plan_id, index, code = self._coded(name, new=False)
        page, place = divmod(index, _NAMES)
        codes = self._pages.get((plan_id, page))
        if not code or codes is None or codes[place] & ~_CLAIMED != code:
            return None
        claimed = bool(codes[place] & _CLAIMED)
        codes[place] = code | _CLAIMED
        return not claimed

    def __iter__(self) -> Iterator[str]:
        yield from (name for name, claimed in self._others.items() if not claimed)
        folders = list(self._folders)
        for (plan_id, page), codes in self._pages.items():
            for index, code in enumerate(codes, page * _NAMES):
                if code and not code & _CLAIMED:
                    folder, kind = divmod(code - 1, len(_KINDS))
                    yield f"{folders[folder]}/{plan_id}-{index:06d}{_KINDS[kind]}"

    def _coded(self, name: str, *, new: bool) -> tuple[str, int, int]:
        """(plan_id, index, code) of a name; code 0 if it has another form or an unknown folder."""
        match = _USUAL.fullmatch(name)
        if match is None:
            return "", 0, 0
        folder, plan_id, digits, kind = match.groups()
        if new:
            self._folders.setdefault(folder, len(self._folders))
        number = self._folders.get(folder)
        code = 0 if number is None else 1 + number * len(_KINDS) + _KINDS.index(kind)
        return plan_id, int(digits), code


def image_names(root: Path, *, clear: bool = False, empty: bool = False) -> FileNames:
    """The images in the class folders of `root`; with `clear`, removes unfinished temporary files.

    Files of 0 bytes, which a power cut leaves behind, are no images; `empty` lists them as well,
    and pipes, devices and broken links with the names of images.

    Raises:
        LabelsetError: a folder cannot be read.
    """
    names = FileNames()
    for folder in _entries(root):
        if folder.name.startswith(".") or not folder.is_dir():
            _clear([folder] if clear else [])
            continue
        for entry in _entries(folder):
            is_image = entry.is_file() or (empty and not entry.is_dir())
            if entry.name.endswith(_KINDS) and not entry.name.startswith(".") and is_image:
                if empty or holds_something(entry):
                    names.add(f"{folder.name}/{entry.name}")
            else:
                _clear([entry] if clear else [])
    return names


def holds_something(place: Path | os.DirEntry[str]) -> bool:
    """Whether anything but a file of 0 bytes is there; such a file may be replaced."""
    try:
        found = place.stat()
    except OSError:
        return False
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LabelsetError(
            f"cannot read {os.fspath(folder)}: {error.strerror or error}"
        ) from error


def _clear(entries: Iterable[os.DirEntry[str]]) -> None:
    """Removes the half-written files that a killed writer left behind."""
    for entry in entries:
        if entry.name.startswith(".") and entry.name.endswith(".part") and entry.is_file():
            with suppress(OSError):  # the folder may be read-only
                Path(entry.path).unlink()

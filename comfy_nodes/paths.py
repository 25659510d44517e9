"""Which files and folders a widget, a route or a workflow may name. Standard library only.

Opening somebody else's workflow must not let it read the user's files: what it names stays inside
ComfyUI's input and output folders, links included. Whoever runs the server may list more folders in
the environment variable SYNTHGRID_ROOTS, with the system's separator between them (";" on Windows,
":" elsewhere); paths in those may be given in full.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from . import host
from .errors import LabelsetError

ROOTS_VARIABLE = "SYNTHGRID_ROOTS"
LARGEST_LIST = 4 * 2**20  # bytes of a list of classes, templates, contexts or styles
LARGEST_CAPTIONS = 512 * 2**20  # bytes of a file of captions


def folder_in_output(folder: str) -> Path:
    """A folder inside the output folder, as named in a widget.

    Raises:
        LabelsetError: the name is blank, the output folder itself, or leads out of it.
    """
    output = _resolved(host.output_directory())
    problem = f"folder '{folder}' must be a folder inside {output}; give a name such as 'synthgrid'"
    name = folder.strip()
    if not name or "\0" in name:
        raise LabelsetError(problem)
    root = _resolved(output / name)
    if root == output or not root.is_relative_to(output):
        raise LabelsetError(problem)
    return root


def file_in_output(name: str, suffix: str) -> Path:
    """A file inside the output folder, as named in a widget; it need not exist.

    Raises:
        LabelsetError: the name is blank, has another suffix, leads out of the output folder, also
            by a link, or is something other than a file.
    """
    output = _resolved(host.output_directory())
    path = _resolved(output / name.strip()) if "\0" not in name else output
    if (
        path == output
        or not path.is_relative_to(output)
        or path.suffix.lower() != suffix
        or (path.exists() and not path.is_file())
    ):
        shown = name.replace("\0", "?")
        raise LabelsetError(f"'{shown}' must be a {suffix} file inside {output}")
    return path


def refuse_outside_output(path: Path) -> None:
    """Raises LabelsetError if a path, its links followed, is outside the output folder."""
    output = _resolved(host.output_directory())
    if not _resolved(path).is_relative_to(output):
        raise LabelsetError(f"{path} is a link out of {output}; it is left alone")


def folder_in_input(folder: str) -> Path:
    """A folder inside the input folder, as named in a widget.

    Raises:
        LabelsetError: the name is blank or leads out of the input folder, also by a link, or there
            is no input folder.
    """
    root, name = host.input_directory(), folder.strip()
    if root is None:
        raise LabelsetError(
            "no input directory: run this node inside ComfyUI or the embedded engine"
        )
    if not name.strip("./\\") or not _is_relative(name):
        raise LabelsetError(
            f"folder '{folder}' must be a folder inside {root}; put it there and give its name"
        )
    path = root.joinpath(*re.split(r"[/\\]", name))
    refuse_outside(path)
    return path


def list_to_read(text: str, *, largest: int = LARGEST_LIST) -> Path:
    """The file or folder that a widget names as a list of classes, templates, contexts or styles.

    A relative path is looked up in the input folder. Outside any host, where nobody else's
    workflow can come from, the path stays as it is. A file has at most `largest` bytes.

    Raises:
        LabelsetError: it is outside the folders that may be read, or is not a regular file or a
            folder, or is too large to be a list.
    """
    name, root = text.strip().strip('"'), host.input_directory()
    if root is None:
        return Path(name).expanduser()
    if _is_relative(name):
        path = root.joinpath(*re.split(r"[/\\]", name))
    elif "\0" in name or name.startswith(("\\\\", "//")) or not Path(name).is_absolute():
        raise LabelsetError(f"'{name}' cannot be read here; {_where(root)}".replace("\0", "?"))
    else:
        path = Path(name)
    refuse_outside(path)
    _refuse_odd(path, largest)
    return path


def refuse_outside(path: Path) -> None:
    """Raises LabelsetError if a path, its links followed, is outside every folder that may be read.

    A path in full, given by whoever wrote the workflow, has to be in one of SYNTHGRID_ROOTS.
    """
    root = host.input_directory()
    if root is None:
        return
    real = _resolved(path)
    inside = [_resolved(root), *listed_roots()]
    if not any(real.is_relative_to(each) for each in inside):
        raise LabelsetError(f"{path} is outside the folders that may be read; {_where(root)}")


def listed_roots() -> list[Path]:
    """The folders of SYNTHGRID_ROOTS, resolved; blank and relative entries are left out."""
    entries = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    return [_resolved(Path(each)) for each in entries if each and Path(each).is_absolute()]


def files_below(folder: Path) -> Iterator[Path]:
    """Every regular file at any depth below a folder, links followed; a loop of links ends.

    Raises:
        LabelsetError: a link leads out of the folders that may be read.
    """
    seen: set[Path] = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        real = _resolved(Path(where))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in (*folders, *names):
            if (Path(where) / name).is_symlink():
                refuse_outside(Path(where) / name)
        yield from (path for path in (Path(where) / name for name in names) if path.is_file())


def _where(root: Path) -> str:
    return (
        f"put it into {root} and give its name there, or let whoever runs the server list its "
        f"folder in {ROOTS_VARIABLE}"
    )


def _is_relative(name: str) -> bool:
    """Whether a name with either kind of slash stays below the folder that it is looked up in."""
    parts = re.split(r"[/\\]", name)
    return ".." not in parts and parts[0] not in ("", "~") and not re.search(r"[:\0]", name)


def _resolved(path: Path) -> Path:
    """The path without links. Raises LabelsetError for a loop of links or an impossible name."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise LabelsetError(f"cannot read {path}: {error}") from None


def _refuse_odd(path: Path, largest: int) -> None:
    """A device or a pipe would never end, and a list is never large."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return  # whoever reads it says that it is missing
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise LabelsetError(f"{path} is not a regular file; give a text, JSON or CSV file")
    if found.st_size > largest:
        raise LabelsetError(
            f"{path} has {found.st_size} bytes, too many for a list; the limit is {largest} bytes"
        )

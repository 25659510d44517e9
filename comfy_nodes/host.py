"""What the nodes need of the program that runs them: ComfyUI when inside it, else what the host has set."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from .errors import LabelsetError

_output_directory: Path | None = None
_input_directory: Path | None = None


def use_output_directory(path: Path) -> None:
    """Sets the folder that `output_directory` answers outside ComfyUI. Called once by the embedded engine."""
    global _output_directory
    _output_directory = Path(path)


def use_input_directory(path: Path) -> None:
    """Sets the folder that names of real images and lists refer to outside ComfyUI. Called once by the embedded engine."""
    global _input_directory
    _input_directory = Path(path)


def output_directory() -> Path:
    """The folder that every saved image must stay inside.

    Raises:
        LabelsetError: neither ComfyUI nor `use_output_directory` has named one.
    """
    if _output_directory is not None:
        return _output_directory
    if "folder_paths" in sys.modules:  # ComfyUI's own module, loaded long before any node runs
        return Path(importlib.import_module("folder_paths").get_output_directory())
    raise LabelsetError("no output directory: run this node inside ComfyUI or the embedded engine")


def input_directory() -> Path | None:
    """The folder that people put files into for a workflow; None where nobody has named one."""
    if _input_directory is None and "folder_paths" in sys.modules:
        return Path(importlib.import_module("folder_paths").get_input_directory())
    return _input_directory


def folder_in_input(folder: str) -> Path:
    """A folder of the input folder that a widget names. Links in it are followed: who could make them owns the machine.

    Raises:
        LabelsetError: the name is blank, leads out of the input folder, or nobody has named one.
    """
    root, name = input_directory(), folder.strip()
    if root is None:
        raise LabelsetError(
            "no input directory: run this node inside ComfyUI or the embedded engine"
        )
    parts = re.split(r"[/\\]", name)
    if not name.strip("./\\") or ".." in parts or parts[0] == "" or ":" in name or "\0" in name:
        raise LabelsetError(
            f"folder '{folder}' must be a folder inside {root}; put it there and write its name"
        )
    return root.joinpath(*parts)


def path_to_read(text: str) -> Path:
    """Where a list that a widget names lies: a relative path is one in the input folder, a whole path stays itself."""
    path, root = Path(text.strip().strip('"')).expanduser(), input_directory()
    if root is None or path.is_absolute():
        return path
    inside = root / path
    return path if path.exists() and not inside.exists() else inside


def folder_in_output(folder: str) -> Path:
    """The root of a labelled folder that a widget names, which must lie inside the output folder.

    Raises:
        LabelsetError: it is blank, the output folder itself, or outside it.
    """
    output = output_directory().resolve()
    root = (output / folder.strip()).resolve()
    if not folder.strip() or root == output or not root.is_relative_to(output):
        raise LabelsetError(
            f"folder '{folder}' must be a folder inside {output}; write a name such as 'synthgrid'"
        )
    return root


def execution_blocker() -> Any | None:
    """The value that makes ComfyUI leave out, without an error, all nodes that a link leads to; None outside ComfyUI."""
    if "folder_paths" not in sys.modules:
        return None
    try:
        return importlib.import_module("comfy_execution.graph_utils").ExecutionBlocker(None)
    except (ImportError, AttributeError):  # before 2024-08
        return None

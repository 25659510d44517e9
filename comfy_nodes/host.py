"""Where the program that runs the nodes keeps its output: ComfyUI when inside it, else what the host has set."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from .errors import LabelsetError

_output_directory: Path | None = None


def use_output_directory(path: Path) -> None:
    """Sets the folder that `output_directory` answers outside ComfyUI. Called once by the embedded engine."""
    global _output_directory
    _output_directory = Path(path)


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

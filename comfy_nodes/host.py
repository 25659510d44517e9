"""What the nodes need from the program that runs them: ComfyUI, or the embedded engine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from .errors import LabelsetError

_output_directory: Path | None = None
_input_directory: Path | None = None


def use_output_directory(path: Path) -> None:
    """Sets what `output_directory` returns outside ComfyUI; the embedded engine calls this once."""
    global _output_directory
    _output_directory = Path(path)


def use_input_directory(path: Path) -> None:
    """Sets what `input_directory` returns outside ComfyUI; the embedded engine calls this once."""
    global _input_directory
    _input_directory = Path(path)


def output_directory() -> Path:
    """The folder that all saved images must stay inside.

    Raises:
        LabelsetError: not inside ComfyUI, and `use_output_directory` was not called.
    """
    if _output_directory is not None:
        return _output_directory
    if "folder_paths" in sys.modules:  # ComfyUI's own module, loaded long before any node runs
        return Path(importlib.import_module("folder_paths").get_output_directory())
    raise LabelsetError("no output directory: run this node inside ComfyUI or the embedded engine")


def input_directory() -> Path | None:
    """The folder of files that workflows read; None if neither ComfyUI nor a host has set one."""
    if _input_directory is None and "folder_paths" in sys.modules:
        return Path(importlib.import_module("folder_paths").get_input_directory())
    return _input_directory


def model_file(folder: str, name: str) -> Path | None:
    """The file that a loader finds under `name` in ComfyUI's models folder `folder` ("loras").

    None if there is none, or outside ComfyUI. A name cannot lead out of the folder.
    """
    if "folder_paths" not in sys.modules:
        return None
    found = importlib.import_module("folder_paths").get_full_path(folder, name)
    return None if found is None else Path(found)


def stop_if_interrupted() -> None:
    """Raises ComfyUI's own exception if the user has pressed its stop button."""
    if "comfy.model_management" in sys.modules:
        management = importlib.import_module("comfy.model_management")
        management.throw_exception_if_processing_interrupted()


def execution_blocker() -> Any | None:
    """The value that makes ComfyUI skip, without an error, every node it reaches.

    None outside ComfyUI.
    """
    if "folder_paths" not in sys.modules:
        return None
    try:
        return importlib.import_module("comfy_execution.graph_utils").ExecutionBlocker(None)
    except (ImportError, AttributeError):  # a ComfyUI from before 2024-08
        return None

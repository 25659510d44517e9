"""Workflows: read, patched, checked before a run, and converted from ComfyUI's editor format."""

from .graph import Workflow, load_workflow, parse_workflow
from .loading import load_for
from .options import Options, patch
from .overrides import with_settings

__all__ = [
    "Options",
    "Workflow",
    "load_for",
    "load_workflow",
    "parse_workflow",
    "patch",
    "with_settings",
]

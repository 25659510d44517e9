"""Workflows: read, patched, checked before a run, and converted from ComfyUI's editor format."""

from .changes.options import Options, patch
from .changes.overrides import with_settings
from .graph import Workflow, load_workflow, parse_workflow
from .loading import load_for

__all__ = [
    "Options",
    "Workflow",
    "load_for",
    "load_workflow",
    "parse_workflow",
    "patch",
    "with_settings",
]

"""SynthGrid's client: a plan, a workflow and a ComfyUI server in, a labelled folder out.

    from client import ComfyServer, Options, load_workflow, patch, run_plan

    workflow = patch(load_workflow("workflows/api/sd15_class_prompts.json"), Options(images_per_class=30))
    run_plan(workflow, ComfyServer("http://127.0.0.1:8188"), "data/synthetic")

`python -m client --help` is the same from a command line. Names are imported when first used, so that `import client`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ClientError
    from .launch import EmbeddedServer
    from .runner import RunSummary, run_plan
    from .server import ComfyServer
    from .workflow import Options, Workflow, load_workflow, patch

__all__ = [
    "ClientError",
    "ComfyServer",
    "EmbeddedServer",
    "Options",
    "RunSummary",
    "Workflow",
    "load_workflow",
    "patch",
    "run_plan",
]

_HOMES = {
    "ClientError": "errors",
    "ComfyServer": "server",
    "EmbeddedServer": "launch",
    "Options": "workflow",
    "RunSummary": "runner",
    "Workflow": "workflow",
    "load_workflow": "workflow",
    "patch": "workflow",
    "run_plan": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'client' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

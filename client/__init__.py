"""SynthGrid's client: from a plan, a workflow and ComfyUI servers to a labelled folder.

    from client import Options, ServerSpec, load_workflow, patch, run_plan

    workflow = load_workflow("workflows/api/sd15_class_prompts.json")
    workflow = patch(workflow, Options(images_per_class=30))
    run_plan(workflow, "http://127.0.0.1:8188", "data/synthetic")
    servers = [ServerSpec("http://10.0.0.5:8188"), ServerSpec("http://10.0.0.6:8188", weight=2)]
    run_plan(workflow, servers, "data/more")

`synthgrid --help` does the same from a command line. Names are imported when they are first used,
so that `import client` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ClientError
    from .run.dispatch.dispatcher import Dispatcher
    from .run.runner import RunProgress, RunSummary, run_plan
    from .server.fleet import Patience, ServerSpec, read_servers
    from .server.launch import EmbeddedServer
    from .server.server import ComfyServer
    from .workflow.changes.options import Options, patch
    from .workflow.graph import Workflow, load_workflow

__all__ = [
    "ClientError",
    "ComfyServer",
    "Dispatcher",
    "EmbeddedServer",
    "Options",
    "Patience",
    "RunProgress",
    "RunSummary",
    "ServerSpec",
    "Workflow",
    "load_workflow",
    "patch",
    "read_servers",
    "run_plan",
]

_HOMES = {
    "ClientError": "errors",
    "ComfyServer": "server",
    "Dispatcher": "run",
    "EmbeddedServer": "server",
    "Options": "workflow",
    "Patience": "server",
    "RunProgress": "run",
    "RunSummary": "run",
    "ServerSpec": "server",
    "Workflow": "workflow",
    "load_workflow": "workflow",
    "patch": "workflow",
    "read_servers": "server",
    "run_plan": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'client' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

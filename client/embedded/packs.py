"""Packs of V1 nodes for the engine: a folder with __init__.py or a .py file, as in ComfyUI.

A pack is code, and is run when it is loaded: only the operator who starts the engine names packs,
never a request. It may import the modules of `comfy_modules`, and all of ComfyUI's if a checkout of
ComfyUI is on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from . import comfy_modules
from .errors import EmbeddedError
from .registry import Registry

log = logging.getLogger(__name__)

_NEEDED = ("INPUT_TYPES", "RETURN_TYPES", "FUNCTION")
_COMFYUIS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes"}


def load_pack(registry: Registry, path: Path) -> int:
    """Adds a pack's nodes; returns how many. Nodes that are there already are kept, with a warning.

    Raises:
        EmbeddedError: there is no pack, its code fails, or a node lacks what V1 nodes have.
    """
    path = path.expanduser().resolve()
    source = path / "__init__.py" if path.is_dir() else path
    if not source.is_file() or source.suffix != ".py":
        raise EmbeddedError(
            f"{path} is no node pack; give a folder with __init__.py, or a .py file"
        )
    comfy_modules.provide()
    module = _run(source, path)
    comfy_modules.connect()
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if not isinstance(classes, dict):
        raise EmbeddedError(
            f"node pack {path} has no NODE_CLASS_MAPPINGS; this engine runs V1 nodes only"
        )
    for name, node in classes.items():
        missing = [each for each in _NEEDED if not hasattr(node, each)]
        if missing:
            raise EmbeddedError(f"node {name} of pack {path} has no {missing[0]}; is it a V1 node?")
    taken = sorted(set(classes) & set(registry.classes))
    if taken:
        log.warning("node pack %s: kept the engine's own %s", path, ", ".join(taken))
    titles = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
    registry.add(classes, titles, origin=f"custom_nodes.{path.stem}")
    added = len(classes) - len(taken)
    log.info("node pack %s: %d nodes", path, added)
    return added


def _run(source: Path, path: Path) -> ModuleType:
    """Imports a pack under a name of its own, so that its relative imports work."""
    name = "synthgrid_node_pack_" + re.sub(r"\W", "_", str(path))
    locations = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(
        name, source, submodule_search_locations=locations
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise EmbeddedError(f"node pack {path} cannot be loaded: {_reason(error)}") from error
    return module


def _reason(error: BaseException) -> Any:
    wanted = error.name if isinstance(error, ImportError) else None
    if wanted and wanted.partition(".")[0] in _COMFYUIS:
        return (
            f"it imports '{wanted}', a part of ComfyUI that this engine lacks; run it in ComfyUI, "
            "or set PYTHONPATH to a checkout of ComfyUI"
        )
    return f"{type(error).__name__}: {error}"

"""Starts the embedded engine with the contract's nodes: python serve_engine.py PORT BASE."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

if __name__ == "__main__":
    import comfy_nodes
    from client.embedded.api.server import serve

    spec = importlib.util.spec_from_file_location("contract_nodes", HERE / "contract_nodes.py")
    assert spec is not None
    assert spec.loader is not None
    contract_nodes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contract_nodes)
    comfy_nodes.NODE_CLASS_MAPPINGS.update(contract_nodes.NODE_CLASS_MAPPINGS)

    logging.basicConfig(level=logging.INFO)
    serve(port=int(sys.argv[1]), base_directory=Path(sys.argv[2]), exit_with_parent=True)

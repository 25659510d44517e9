"""The import arrows of the house, read from the source itself.

comfy_nodes knows nobody; client and trainer know only its core and never each other; the report needs no torch.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = {"comfy_nodes.errors", "comfy_nodes.plan", "comfy_nodes.labelset"}
ROOMS = ("comfy_nodes", "client", "trainer", "workflows", "tests")


def imported_modules(path):
    """Absolute names of everything a file imports, relative imports resolved."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_imports(path):
    return {name for name in imported_modules(path) if name.split(".")[0] in ROOMS}


def sources(room):
    return [path for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts]


def within(name, allowed):
    return any(name == each or name.startswith(each + ".") for each in allowed)


def allowed_for(path):
    parts = path.relative_to(ROOT).parts
    if parts[0] == "comfy_nodes":
        return {"comfy_nodes"}
    if parts[:2] == ("client", "embedded"):
        return {"client", "comfy_nodes"}
    if parts[0] == "client":
        return {"client"} | CORE
    return {"trainer", "comfy_nodes.errors", "comfy_nodes.labelset"}


@pytest.mark.parametrize(
    "path", [p for room in ROOMS[:3] for p in sources(room)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_follow_the_arrows(path):
    wrong = [name for name in room_imports(path) if not within(name, allowed_for(path))]
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


def test_the_node_pack_uses_relative_imports_only():
    """Linked alone into custom_nodes it has another name, and 'client' or 'utils' would be ComfyUI's own modules."""
    for path in sources("comfy_nodes"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] in ROOMS for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path} reaches above the pack"
                assert node.level == 1 or node.module.split(".")[0] not in ROOMS, path


@pytest.mark.parametrize("module", ["comfy_nodes", "comfy_nodes.labelset", "client", "trainer.report"])
def test_importing_needs_no_torch(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_the_transport_knows_the_http_libraries():
    for path in sources("client"):
        libraries = {name.split(".")[0] for name in imported_modules(path)} & {"requests", "websocket"}
        assert not libraries or path.name == "transport.py", f"{path} imports {libraries}"

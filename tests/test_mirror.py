"""The tests mirror the source tree: every module has its own test file, or a test file that says
it covers it.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("comfy_nodes", "client", "trainer", "synthgrid", "tools")
COVERS = re.compile(r"Covers:\s*([\w.,\s]+?)\.(?:\s|$)")


def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module that has more in it than names to hand on."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name == "__init__.py" and not _has_code(path):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in body)


@cache
def covered() -> set[str]:
    """What the docstrings of test files say they cover."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for listed in COVERS.findall(text):
            found |= {each.strip() for each in listed.split(",")}
    return found


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_test_at_the_mirrored_path_or_is_named_by_one(module: str) -> None:
    *folders, name = module.split(".")
    mirrored = ROOT.joinpath("tests", *folders, f"test_{name.strip('_')}.py")
    assert mirrored.is_file() or module in covered(), (
        f"{module} has no {mirrored.relative_to(ROOT)}, "
        f"and no test's docstring says 'Covers: {module}.'"
    )


def test_nothing_is_said_to_be_covered_that_does_not_exist() -> None:
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert covered() <= set(modules()) | packages

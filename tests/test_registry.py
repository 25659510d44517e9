"""What the ComfyUI registry packs is enough for the nodes, and little more."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IGNORE = ROOT / ".comfyignore"
pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the registry packs what git knows; no git here"
)


def packed_files():
    """The files that git knows, less what .comfyignore names: git reads that file as it does
    .gitignore.
    """
    tracked = git("ls-files")
    ignored = git("ls-files", "--cached", "--ignored", f"--exclude-from={IGNORE}")
    return [name for name in tracked if name not in set(ignored)]


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_package_has_nodes_help_workflows_and_what_installs_them_and_nothing_else():
    assert {name.split("/")[0] for name in packed_files()} <= {
        "comfy_nodes",
        "workflows",
        "__init__.py",
        "pyproject.toml",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docs",
        "locales",
        "subgraphs",
        "CITATION.cff",
        "NOTICE",
    }
    assert {
        "comfy_nodes/web/synthgrid.js",
        "__init__.py",
        "requirements.txt",
        "pyproject.toml",
    } <= set(packed_files())


def test_the_package_alone_loads(tmp_path):
    for name in packed_files():
        copy = tmp_path / "synthgrid" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import synthgrid; "
        "print(len(synthgrid.NODE_CLASS_MAPPINGS))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7

"""Nobody's PostScript runs here: images from outside are opened in named formats only.

Pillow starts the program Ghostscript for PostScript files, whatever they are called.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

from client.embedded import runtime
from client.embedded.nodes.images import LoadImage
from comfy_nodes import host
from comfy_nodes.labelset import LabelsetError, read_record
from comfy_nodes.labelset.images.to_rgb import decode_rgb
from comfy_nodes.nodes.realimages import RealFolder
from trainer.data.images import read_image, read_thumbnail
from trainer.errors import DataError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(a PostScript file called .png in a class folder, a file that exists once `gs` has run)."""
    ran = tmp_path / "gs-has-run"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch '{ran}'\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "input" / "real" / "bat" / "photo.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(path, format="EPS")
    return path, ran


def loaded_by_the_engine(path: Path) -> None:
    folders = runtime.Folders.create(path.parents[3] / "engine", (), path.parents[2])
    runtime.use_folders(folders)
    LoadImage().load("real/bat/photo.png")


READERS: list[Callable[[Path], object]] = [
    lambda path: decode_rgb(path.read_bytes(), name=str(path)),
    lambda path: read_record(path.read_bytes()),
    lambda path: RealFolder(path.parents[1], "real").read("bat/photo.png", 8, 8),
    read_image,
    lambda path: read_thumbnail(path, 8),
    loaded_by_the_engine,
]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for gs is a shell script")
def test_the_trap_works(postscript: tuple[Path, Path]) -> None:
    path, ran = postscript
    with pytest.raises(OSError), Image.open(path) as image:  # noqa: PT011 - whatever Pillow says
        image.load()
    assert ran.exists()


@pytest.mark.parametrize("read", READERS)
def test_postscript_called_png_is_refused_and_ghostscript_is_not_started(
    postscript: tuple[Path, Path], read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_input_directory", None)
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(runtime, "_folders", None)
    path, ran = postscript
    with pytest.raises((LabelsetError, DataError, OSError), match=r"image"):
        read(path)
    assert not ran.exists()


def test_every_call_of_pillows_open_names_the_formats() -> None:
    for room in ("comfy_nodes", "client", "trainer"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                    named = {keyword.arg for keyword in node.keywords}
                    assert "formats" in named, f"{path}:{node.lineno}"

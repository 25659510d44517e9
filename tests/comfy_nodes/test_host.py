"""Paths that a widget names stay where they may be, inside ComfyUI and in the embedded engine.

Covers: comfy_nodes.host, comfy_nodes.errors.
"""

import sys
import types
from pathlib import Path

import pytest

from comfy_nodes import host
from comfy_nodes.errors import LabelsetError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(host, "_input_directory", None)
    host.use_output_directory(tmp_path / "output")
    host.use_input_directory(tmp_path / "input")
    return tmp_path


@pytest.fixture
def inside_comfyui(tmp_path, monkeypatch):
    """ComfyUI's module of folders, as far as the nodes know it."""
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(host, "_input_directory", None)
    module = types.ModuleType("folder_paths")
    module.get_output_directory = lambda: str(tmp_path / "comfy-output")
    module.get_input_directory = lambda: str(tmp_path / "comfy-input")
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return tmp_path


def test_inside_comfyui_its_own_folders_count(inside_comfyui):
    assert host.output_directory() == inside_comfyui / "comfy-output"
    assert host.input_directory() == inside_comfyui / "comfy-input"


def test_outside_any_host_the_message_says_where_to_run(monkeypatch):
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(host, "_input_directory", None)
    assert host.input_directory() is None
    with pytest.raises(LabelsetError, match="no output directory: run this node inside ComfyUI"):
        host.folder_in_output("x")
    with pytest.raises(LabelsetError, match="no input directory: run this node inside ComfyUI"):
        host.folder_in_input("x")


def test_a_folder_is_one_inside_the_output_folder(folders):
    root = (folders / "output").resolve()
    assert host.folder_in_output(" animals/first try ") == root / "animals" / "first try"
    for folder in ("", " ", ".", "..", "../x", "a/../../b", str(folders / "elsewhere")):
        with pytest.raises(LabelsetError, match="must be a folder inside"):
            host.folder_in_output(folder)


def test_a_folder_of_real_images_is_one_inside_the_input_folder(folders):
    assert host.folder_in_input(" set/real ") == folders / "input" / "set" / "real"
    for folder in ("", ".", "../x", "set/../../x", "/tmp", "C:\\x", "a\0b"):
        with pytest.raises(LabelsetError, match="must be a folder inside"):
            host.folder_in_input(folder)


def test_a_list_is_in_the_input_folder_or_at_its_full_path(folders, monkeypatch):
    inside = folders / "input" / "classes.txt"
    assert host.path_to_read(' "classes.txt" ') == inside
    assert host.path_to_read(str(folders / "x.txt")) == folders / "x.txt"
    monkeypatch.chdir(folders)
    (folders / "classes.txt").touch()
    assert host.path_to_read("classes.txt") == Path("classes.txt")
    inside.parent.mkdir()
    inside.touch()
    assert host.path_to_read("classes.txt") == inside


def test_only_comfyui_can_skip_nodes(inside_comfyui, monkeypatch):
    made = types.ModuleType("comfy_execution.graph_utils")
    made.ExecutionBlocker = lambda message: ("blocker", message)
    monkeypatch.setitem(sys.modules, "comfy_execution", types.ModuleType("comfy_execution"))
    monkeypatch.setitem(sys.modules, "comfy_execution.graph_utils", made)
    assert host.execution_blocker() == ("blocker", None)
    monkeypatch.delattr(made, "ExecutionBlocker")  # a ComfyUI from before 2024-08
    assert host.execution_blocker() is None
    monkeypatch.delitem(sys.modules, "folder_paths")
    assert host.execution_blocker() is None

"""What the nodes ask of the program that runs them.

Covers: comfy_nodes.host, comfy_nodes.errors.
"""

import sys
import types
from pathlib import Path

import pytest

from comfy_nodes import host
from comfy_nodes.errors import LabelsetError


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
        host.output_directory()


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


def test_a_model_file_is_where_comfyui_finds_it(inside_comfyui, monkeypatch):
    folders = sys.modules["folder_paths"]
    folders.get_full_path = lambda folder, name: None if name == "no" else f"/{folder}/{name}"
    assert host.model_file("loras", "ink.pt") == Path("/loras/ink.pt")
    assert host.model_file("loras", "no") is None
    monkeypatch.delitem(sys.modules, "folder_paths")
    assert host.model_file("loras", "ink.pt") is None


def test_the_stop_button_of_comfyui_is_heard(monkeypatch):
    host.stop_if_interrupted()
    made = types.ModuleType("comfy.model_management")

    def stop():
        raise InterruptedError

    made.throw_exception_if_processing_interrupted = stop
    monkeypatch.setitem(sys.modules, "comfy", types.ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.model_management", made)
    with pytest.raises(InterruptedError):
        host.stop_if_interrupted()

"""Packs of nodes that the operator names.

Covers: client.embedded.packs, client.embedded.comfy_modules, client.embedded.registry.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.embedded import comfy_modules, runtime
from client.embedded.blocking import ExecutionBlocker
from client.embedded.errors import EmbeddedError
from client.embedded.execution.prompt import QueuedPrompt
from client.embedded.execution.running import PromptExecution
from client.embedded.packs import load_pack
from client.embedded.registry import Registry

NODE = """
class Twice:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {})}}
    def run(self, number):
        return {"ui": {"value": [number * FACTOR]}, "result": (number * FACTOR,)}
"""
MAPPING = """
NODE_CLASS_MAPPINGS = {"Twice": Twice, "SaveImage": Twice}
NODE_DISPLAY_NAME_MAPPINGS = {"Twice": "Two times"}
"""


@pytest.fixture
def registry(tmp_path_factory) -> Registry:
    runtime.use_folders(runtime.Folders.create(tmp_path_factory.mktemp("base")))
    return Registry()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A pack whose name is no Python name, and which imports its own modules."""
    pack = tmp_path / "my-pack.v1"
    pack.mkdir()
    (pack / "numbers.py").write_text("FACTOR = 2\n", "utf-8")
    (pack / "__init__.py").write_text("from .numbers import FACTOR\n" + NODE + MAPPING, "utf-8")
    return pack


def result(registry: Registry, class_type: str, **inputs: Any) -> Any:
    node = {"1": {"class_type": class_type, "inputs": inputs}}
    item = QueuedPrompt(0, "id", node, {}, ["1"])
    return PromptExecution(item, registry.classes, lambda *_: None).run().outputs["1"]


def test_the_nodes_of_a_folder_run_and_are_described(registry, folder, caplog):
    saves = registry.classes["SaveImage"]
    assert load_pack(registry, folder) == 1
    assert result(registry, "Twice", number=4) == {"value": [8]}
    described = registry.describe("Twice")
    assert described["display_name"] == "Two times"
    assert described["python_module"] == "custom_nodes.my-pack"
    assert registry.classes["SaveImage"] is saves  # a pack replaces no node of the engine
    assert "kept the engine's own SaveImage" in caplog.text


def test_a_single_file_is_a_pack_too(registry, tmp_path):
    file = tmp_path / "one.py"
    file.write_text("FACTOR = 3\n" + NODE + 'NODE_CLASS_MAPPINGS = {"Thrice": Twice}', "utf-8")
    assert load_pack(registry, file) == 1
    assert result(registry, "Thrice", number=4) == {"value": [12]}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import folder_paths", "imports 'folder_paths', a part of ComfyUI that this engine lacks"),
        ("import comfy.samplers", "set PYTHONPATH to a checkout of ComfyUI"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def x(:", "SyntaxError"),
        ("async def comfy_entrypoint(): ...", "has no NODE_CLASS_MAPPINGS; this engine runs V1"),
        ("class A: ...\nNODE_CLASS_MAPPINGS = {'A': A}", "node A of pack .* has no INPUT_TYPES"),
    ],
)
def test_a_pack_that_cannot_be_loaded_is_refused_in_words(registry, tmp_path, code, words):
    file = tmp_path / "bad.py"
    file.write_text(code, "utf-8")
    with pytest.raises(EmbeddedError, match=words):
        load_pack(registry, file)


def test_what_is_no_pack_is_refused(registry, tmp_path):
    (tmp_path / "notes.txt").write_text("x", "utf-8")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "nowhere"):
        with pytest.raises(EmbeddedError, match="give a folder with __init__"):
            load_pack(registry, path)


USES_COMFYUI = """
from comfy.utils import ProgressBar
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import ExecutionBlocker as Same, GraphBuilder, is_link
assert ExecutionBlocker is Same and is_link(["1", 0]) and not is_link("1")
class Build:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {})}}
    def run(self, number):
        ProgressBar(2).update(1)
        if number < 0:
            return (ExecutionBlocker(None),)
        graph = GraphBuilder()
        first = graph.node("Add", "first", number=1)
        second = graph.node("Add")
        second.set_input("number", first.out(0))
        second.set_input("other", None)
        assert graph.lookup_node("first") is first and first.get_input("number") == 1
        return {"result": (second.out(0),), "expand": graph.finalize()}
class Add:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {})}}
    def run(self, number):
        return {"ui": {"value": [number + 1]}, "result": (number + 1,)}
NODE_CLASS_MAPPINGS = {"Build": Build, "Add": Add}
"""


def test_a_pack_may_use_the_modules_of_comfyui_that_packs_use_most(registry, tmp_path):
    file = tmp_path / "uses.py"
    file.write_text(USES_COMFYUI, "utf-8")
    load_pack(registry, file)
    prompt = {
        "1": {"class_type": "Build", "inputs": {"number": 5}},
        "2": {"class_type": "Add", "inputs": {"number": ["1", 0]}},
        "3": {"class_type": "Build", "inputs": {"number": -1}},
        "4": {"class_type": "Add", "inputs": {"number": ["3", 0]}},
    }
    sent: list[Any] = []
    item = QueuedPrompt(0, "id", prompt, {}, ["2", "4"])
    execution = PromptExecution(item, registry.classes, lambda *message: sent.append(message))
    outcome = execution.run()
    assert outcome.succeeded, outcome.messages
    assert outcome.outputs["2"] == {"value": [4]}
    assert "4" not in outcome.outputs
    steps = [(data["value"], data["max"]) for event, data, _ in sent if event == "progress"]
    assert steps == [(1, 2), (1, 2)]


def test_two_graphs_never_share_an_id():
    graphs = [comfy_modules.GraphBuilder() for _ in range(2)]
    for graph in graphs:
        graph.node("A", "2")
        graph.node("B").set_override_display_id("7")
        graph.node("B")
    one, other = (graph.finalize() for graph in graphs)
    assert len(one | other) == 6
    assert [node.get("override_display_id") for node in one.values()] == [None, "7", None]
    assert comfy_modules.GraphBuilder("x.").node("A").out(1) == ["x.1", 1]


def test_progress_goes_to_the_node_that_runs():
    seen: list[Any] = []
    runtime.listen(lambda *step: seen.append(step))
    try:
        bar = comfy_modules.ProgressBar(4)
        bar.update(1)
        bar.update_absolute(9, 5)
    finally:
        runtime.listen()
    assert seen == [(1, 4), (5, 5)]


def test_comfyuis_own_modules_win_and_report_progress_here(tmp_path):
    """In a process of its own: nothing else may have imported the modules yet."""
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "__init__.py").touch()
    (tmp_path / "comfy" / "utils.py").write_text(
        "hook = None\ndef set_progress_bar_global_hook(each):\n    global hook\n    hook = each\n",
        "utf-8",
    )
    code = """
import sys
from client.embedded import comfy_modules, runtime
comfy_modules.provide()
import comfy.utils, comfy_execution.graph
assert comfy.utils.hook is None
comfy_modules.connect()
runtime.listen(print)
comfy.utils.hook(2, 7, None, node_id="x")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[3],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2 7\n"


def test_a_blocker_has_a_message():
    assert ExecutionBlocker("why").message == "why"

"""What tests/contract cannot ask of every server: hostile prompts, odd nodes, and paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.embedded import runtime
from client.embedded.execution import (
    PromptExecution,
    call_over_lists,
    execution_order,
    split_returns,
)
from client.embedded.files import inside, split_annotation
from client.embedded.prompt_queue import QueuedPrompt
from client.embedded.registry import Registry
from client.embedded.validation import Verdict, types_match, validate_prompt


def show(result: Any) -> type:
    """An output node that returns `result`."""

    class Show:
        RETURN_TYPES = ()
        OUTPUT_NODE = True
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"optional": {"value": ("*", {})}}

        def run(self, value: Any = None) -> Any:
            return result

    return Show


def execute(result: Any) -> Any:
    item = QueuedPrompt(0, "id", {"1": {"class_type": "Show", "inputs": {}}}, {}, ["1"])
    return PromptExecution(item, {"Show": show(result)}, lambda *_: None).run()


def test_a_ui_output_that_is_not_json_is_its_nodes_error():
    outcome = execute({"ui": {"things": [object()]}})
    assert not outcome.succeeded
    assert outcome.outputs == {}
    assert "not JSON serializable" in outcome.messages[-1][1]["exception_message"]


def test_a_node_that_expands_is_refused_in_words():
    assert (
        "use ComfyUI" in execute({"expand": {}, "result": ()}).messages[-1][1]["exception_message"]
    )


def test_a_node_that_returns_nothing_fails_as_it_does_in_comfyui():
    assert execute(None).messages[-1][1]["exception_type"] == "TypeError"


def test_ui_outputs_of_several_calls_are_joined():
    returned = [{"ui": {"a": [1]}, "result": (1,)}, {"ui": {"a": [2, 3]}, "result": (2,)}]
    assert split_returns(returned, show(None)) == ([[1, 2]], {"a": [1, 2, 3]})


def test_nothing_but_empty_lists_is_one_call_without_arguments():
    assert call_over_lists(show((5,))(), {"value": []}) == [(5,)]


def test_a_chain_of_thousands_of_nodes_is_put_in_order():
    prompt = {
        str(place): {"inputs": {"value": [str(place - 1), 0]} if place else {}}
        for place in range(5000)
    }
    assert execution_order(prompt, ["4999"]) == [str(place) for place in range(5000)]


def test_a_node_that_two_outputs_need_runs_once():
    needs = {"1": [], "2": ["1"], "3": ["1"], "4": ["2", "3"]}
    prompt = {
        name: {"inputs": {each: [each, 0] for each in links}} for name, links in needs.items()
    }
    assert execution_order(prompt, ["4", "2"]) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("received", "expected", "matches"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "LATENT", False),
        ("*", "LATENT", True),
        ("IMAGE", "*", True),
        ("IMAGE,MASK", "MASK", True),
        ("INT", "FLOAT, INT", True),
        (["a"], "COMBO", True),
        (["a"], ["a"], True),
        (["a"], "INT", False),
    ],
)
def test_types_match_by_name(received, expected, matches):
    assert types_match(received, expected) is matches


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Registry:
    runtime.use_folders(runtime.Folders.create(tmp_path_factory.mktemp("base")))
    registry = Registry()
    registry.add({"Show": show({"ui": {"x": [1]}})}, {})
    return registry


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["Show", "EmptyImage", "SaveImage", "KSampler", "LoadImage", "SynthGridLabelledImageSaver", "?"]
)
IDS = st.sampled_from(["1", "2", "3", "4"])
LINKS = st.tuples(IDS, st.integers(-2, 3)).map(list)
FIELDS = st.sampled_from(
    ["value", "images", "width", "image", "folder", "filename_prefix", "other"]
)
NODES = st.fixed_dictionaries(
    {"class_type": NAMES, "inputs": st.dictionaries(FIELDS, LINKS | JSON, max_size=4) | JSON}
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prompt=st.dictionaries(IDS, NODES | JSON, max_size=4))
def test_any_prompt_is_judged_and_what_passes_can_be_run(registry, prompt):
    try:
        verdict = validate_prompt(prompt, registry.classes)
    except TypeError:  # a class_type that is a list or an object; answered with 500 as in ComfyUI
        assert any(
            isinstance(node, dict) and not isinstance(node.get("class_type"), str)
            for node in prompt.values()
        )
        return
    assert isinstance(verdict, Verdict)
    assert (verdict.error is None) == bool(verdict.outputs)
    if verdict.outputs:
        order = execution_order(prompt, verdict.outputs)
        assert set(verdict.outputs) <= set(order) <= set(prompt)


@pytest.mark.parametrize("link", [["9", 0], ["1", 0], ["2", 0]])
def test_a_link_to_an_input_that_no_node_declares_must_lead_somewhere(registry, link):
    prompt = {
        name: {"class_type": "Show", "inputs": {"undeclared": each}}
        for name, each in [("1", link), ("2", ["1", 0])]
    }
    verdict = validate_prompt(prompt, registry.classes)
    assert verdict.error is not None
    assert verdict.node_errors


@given(
    name=st.text(max_size=30)
    | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "~", "\0"])).map("".join)
)
def test_no_name_leads_out_of_its_folder(name):
    root = Path("/somewhere/base").resolve()
    path = inside(root, name)
    assert path is None or path.is_relative_to(root)


def test_a_link_in_the_file_system_that_leads_out_is_not_followed(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "secret.txt").write_text("x", "utf-8")
    try:
        (tmp_path / "base" / "link").symlink_to(tmp_path)
    except OSError:
        pytest.skip("no symbolic links here")
    assert inside(tmp_path / "base", "link/secret.txt") is None


def test_an_annotated_name_says_its_folder():
    assert split_annotation("cat.png [output]") == ("cat.png", "output")
    assert split_annotation("cat.png") == ("cat.png", None)


def test_every_node_can_be_described_as_json(registry):
    assert set(registry.describe_all()) == set(registry.classes)

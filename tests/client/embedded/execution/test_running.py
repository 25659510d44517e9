"""What tests/contract cannot ask of every server: hostile prompts, odd nodes, and paths.

Covers: client.embedded.execution.running, client.embedded.api.files,
client.embedded.execution.queue, client.embedded.registry, client.embedded.execution.validation.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.embedded import runtime
from client.embedded.api.files import inside, split_annotation
from client.embedded.execution.calls import by_output, call_over_lists, read_returns
from client.embedded.execution.prompt import QueuedPrompt
from client.embedded.execution.running import PromptExecution, _shown
from client.embedded.execution.validation import Verdict, types_match, validate_prompt
from client.embedded.registry import Registry


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


def test_a_node_that_returns_nothing_fails_as_it_does_in_comfyui():
    assert execute(None).messages[-1][1]["exception_type"] == "TypeError"


def split_returns(returned: list[Any], node_class: Any) -> tuple[list[list[Any]], dict[str, Any]]:
    read = read_returns(returned, node_class)
    return by_output(read.results, node_class), read.ui


def test_ui_outputs_of_several_calls_are_joined():
    returned = [{"ui": {"a": [1]}, "result": (1,)}, {"ui": {"a": [2, 3]}, "result": (2,)}]
    assert split_returns(returned, show(None)) == ([[1, 2]], {"a": [1, 2, 3]})


def test_nothing_but_empty_lists_is_one_call_without_arguments():
    assert call_over_lists(show((5,))(), {"value": []}) == [(5,)]


class Link:
    """Passes on what it gets, and notes the order of the calls."""

    RETURN_TYPES = ("*",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    order: ClassVar[list[str]] = []

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"optional": {"value": ("*", {})}, "hidden": {"node_id": "UNIQUE_ID"}}

    def run(self, node_id: str, **_: Any) -> tuple[str]:
        self.order.append(node_id)
        return (node_id,)


def linked(needs: dict[str, list[str]]) -> dict[str, Any]:
    """A prompt of nodes that need one another."""
    return {
        name: {"class_type": "Link", "inputs": {each: [each, 0] for each in links}}
        for name, links in needs.items()
    }


def order_of(needs: dict[str, list[str]], outputs: list[str]) -> list[str]:
    """The order in which nodes run that need one another."""
    prompt = linked(needs)
    Link.order.clear()
    item = QueuedPrompt(0, "id", prompt, {}, outputs)
    assert PromptExecution(item, {"Link": Link}, lambda *_: None).run().succeeded
    return list(Link.order)


def test_a_chain_of_thousands_of_nodes_is_judged_and_run_in_order():
    needs = {str(place): [str(place - 1)] if place else [] for place in range(5000)}
    assert order_of(needs, ["4999"]) == list(needs)
    assert validate_prompt(linked(needs), {"Link": Link}).outputs == list(needs)


def test_a_node_that_two_outputs_need_runs_once():
    needs = {"1": [], "2": ["1"], "3": ["1"], "4": ["2", "3"]}
    assert order_of(needs, ["4", "2"]) == ["1", "2", "3", "4"]


class Pair:
    """Two outputs, of which the second is a list."""

    RETURN_TYPES = ("INT", "INT")
    OUTPUT_IS_LIST = (False, True)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        hidden = {"prompt": "PROMPT", "node": ("UNIQUE_ID",), "info": "EXTRA_PNGINFO", "x": "X"}
        return {"required": {"number": ("INT", {})}, "hidden": hidden}

    seen: ClassVar[list[Any]] = []

    def run(self, number: int, prompt: Any, node: Any, info: Any, x: Any = "unset") -> Any:
        self.seen.append((number, sorted(prompt), node, info, x))
        runtime.report_progress(1, 4)
        return number, [number + 1, number + 2, number + 3]


class Keep:
    """An output node that keeps what it was called with, and shows it."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    calls: ClassVar[list[Any]] = []
    fails: ClassVar[Any] = None

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"optional": {"one": ("INT", {}), "many": ("INT", {}), "typed": ("INT", {})}}

    def run(self, **values: Any) -> Any:
        self.calls.append(values)
        if self.fails is not None:
            raise self.fails
        return {"ui": {"values": [values["many"]]}}


CHAIN = {
    "p": {"class_type": "Pair", "inputs": {"number": 5}},
    "k": {
        "class_type": "Keep",
        "inputs": {"one": ["p", 0], "many": ["p", 1], "typed": 9, "unknown": 1},
    },
}


def run_chain(client_id: str | None = "me", fails: Any = None) -> tuple[Any, list[Any]]:
    """Runs CHAIN; returns the outcome, and what was sent as (event, data, client id)."""
    Pair.seen.clear()
    Keep.calls.clear()
    Keep.fails = fails
    extra: dict[str, Any] = {"extra_pnginfo": {"a": 1}}
    if client_id is not None:
        extra["client_id"] = client_id
    sent: list[Any] = []
    item = QueuedPrompt(0, "id", CHAIN, extra, ["k"])
    classes = {"Pair": Pair, "Keep": Keep}
    execution = PromptExecution(item, classes, lambda *message: sent.append(message))
    return execution.run(), sent


def test_each_input_gets_the_output_of_its_link_and_a_node_runs_once_per_element():
    run_chain()
    assert Keep.calls == [{"one": 5, "many": number, "typed": 9} for number in (6, 7, 8)]


def test_hidden_inputs_are_the_prompt_the_nodes_id_and_the_extra_data():
    run_chain()
    assert Pair.seen == [(5, ["k", "p"], "p", {"a": 1}, "unset")]


def test_a_hidden_input_of_no_known_kind_is_what_the_prompt_says():
    Pair.seen.clear()
    prompt = {"p": {"class_type": "Pair", "inputs": {"number": 5, "x": 7}}}
    item = QueuedPrompt(0, "id", prompt, {}, ["p"])
    assert PromptExecution(item, {"Pair": Pair}, lambda *_: None).run().succeeded
    assert [each[-1] for each in Pair.seen] == [7]


def test_the_client_of_a_prompt_is_sent_everything_in_order_and_nobody_else_is():
    outcome, sent = run_chain()
    assert {client for _, _, client in sent} == {"me"}
    assert [event for event, _, _ in sent] == [
        "execution_start",
        "execution_cached",
        *("progress_state", "executing", "progress_state", "progress", "progress_state"),
        *("progress_state", "executing", "executed", "progress_state"),
        "execution_success",
    ]
    data = {event: data for event, data, _ in sent}
    node = {"node": "k", "display_node": "k", "prompt_id": "id"}
    ui = {"values": [6, 7, 8]}
    assert data["executing"] == node
    assert data["executed"] == node | {"output": ui}
    assert data["progress"] == {"value": 1, "max": 4, "prompt_id": "id", "node": "p"}
    assert data["execution_cached"].keys() == {"nodes", "prompt_id", "timestamp"}
    assert data["execution_cached"]["nodes"] == []
    origin = {"node_id": "k", "display_node": "k", "parent_node": None, "real_node_id": "k"}
    assert (outcome.succeeded, outcome.outputs, outcome.meta) == (True, {"k": ui}, {"k": origin})
    kept = ["execution_start", "execution_cached", "execution_success"]
    assert [event for event, _ in outcome.messages] == kept
    now = time.time() * 1000
    assert all(now - 60_000 < message["timestamp"] <= now for _, message in outcome.messages)


def test_progress_state_lists_every_node_that_has_started():
    _, sent = run_chain()
    states = [data for event, data, _ in sent if event == "progress_state"]
    shown = [
        [(each["node_id"], each["state"], each["value"], each["max"]) for each in nodes.values()]
        for nodes in (state["nodes"] for state in states)
    ]
    assert shown == [
        [("p", "running", 0.0, 1.0)],
        [("p", "running", 1, 4)],
        [("p", "finished", 4, 4)],
        [("p", "finished", 4, 4), ("k", "running", 0.0, 1.0)],
        [("p", "finished", 4, 4), ("k", "finished", 1.0, 1.0)],
    ]
    assert {state["prompt_id"] for state in states} == {"id"}
    assert states[0]["nodes"] == {
        "p": {
            "value": 0.0, "max": 1.0, "state": "running", "node_id": "p", "prompt_id": "id",
            "display_node_id": "p", "parent_node_id": None, "real_node_id": "p",
        }
    }  # fmt: skip


def test_without_a_client_only_progress_is_sent_and_to_everybody():
    outcome, sent = run_chain(client_id=None)
    assert outcome.succeeded
    assert {event for event, _, _ in sent} == {"progress_state", "progress"}
    assert {client for _, _, client in sent} == {None}


def test_an_error_is_reported_with_its_inputs_and_ends_the_prompt():
    outcome, sent = run_chain(fails=ValueError("no"))
    assert not outcome.succeeded
    assert len(Keep.calls) == 1
    event, data = outcome.messages[-1]
    assert (event, sent[-1]) == ("execution_error", ("execution_error", data, "me"))
    assert data["traceback"][-1].rstrip().endswith("raise self.fails")
    assert {key: data[key] for key in data if key not in ("traceback", "timestamp")} == {
        "node_id": "k",
        "node_type": "Keep",
        "executed": ["p"],
        "exception_message": "no\n",
        "exception_type": "ValueError",
        "current_inputs": {"one": [5], "many": [6, 7, 8], "typed": [9]},
        "current_outputs": ["p"],
        "prompt_id": "id",
    }
    _, sent = run_chain(client_id=None, fails=ValueError("no"))
    assert "execution_error" not in {event for event, _, _ in sent}


def test_everybody_hears_of_an_interruption():
    for client_id in ("me", None):
        outcome, sent = run_chain(client_id=client_id, fails=runtime.Interrupted("stop"))
        event, data = outcome.messages[-1]
        assert not outcome.succeeded
        assert (event, data["node_id"], data["executed"]) == ("execution_interrupted", "k", ["p"])
        assert sent[-1] == (event, data, client_id)


def test_a_wish_to_interrupt_from_before_the_prompt_is_forgotten():
    runtime.interrupt.set()
    assert run_chain()[0].succeeded


def test_a_shorter_list_repeats_its_last_value():
    class Add:
        FUNCTION = "run"

        def run(self, **values: int) -> Any:
            return (sorted(values.items()),)

    called = call_over_lists(Add(), {"a": [1, 2, 3], "b": [4, 5], "c": [6]})
    assert [dict(each) for (each,) in called] == [
        {"a": 1, "b": 4, "c": 6},
        {"a": 2, "b": 5, "c": 6},
        {"a": 3, "b": 5, "c": 6},
    ]
    assert call_over_lists(Add(), {}) == [([],)]


def test_a_node_that_takes_lists_is_called_once_with_them():
    class Lists:
        FUNCTION = "run"
        INPUT_IS_LIST = True

        def run(self, **values: Any) -> Any:
            return values

    assert call_over_lists(Lists(), {"a": [1, 2], "b": []}) == [{"a": [1, 2], "b": []}]


def test_a_node_without_marked_outputs_delivers_one_value_per_call():
    class Plain:
        pass

    assert split_returns([(1, [2]), (3, [4])], Plain) == ([[1, 3], [[2], [4]]], {})
    assert split_returns([(1, [2]), (3, [4, 5])], Pair) == ([[1, 3], [2, 4, 5]], {})
    assert split_returns([{"ui": {"a": [1]}}], Plain) == ([], {"a": [1]})
    assert split_returns([{"result": (7,)}], Plain) == ([[7]], {})
    assert split_returns([(1, [2], 3)], Pair) == ([[1], [2]], {})  # as in ComfyUI


def test_an_error_report_shows_plain_values_and_describes_others():
    class Tensor:
        shape = (2, 3)

    shown = [_shown(each) for each in (None, 1, 1.5, "x" * 3000, Tensor(), ["y" * 3000])]
    assert shown[:4] == [None, 1, 1.5, "x" * 3000]
    assert shown[4] == "Tensor (2, 3)"
    assert len(shown[5]) == 2000


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
def test_any_prompt_is_judged(registry, prompt):
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
    assert set(verdict.outputs) <= set(prompt)


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

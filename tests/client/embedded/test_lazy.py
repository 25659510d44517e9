"""Nodes whose inputs are lazy, that block what follows, that add nodes, and that are coroutines.

Covers: client.embedded.execution.calls, client.embedded.execution.live_prompt,
client.embedded.blocking, client.embedded.execution.prompt, client.embedded.execution.running.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, ClassVar

import pytest

from client.embedded import runtime
from client.embedded.blocking import ExecutionBlocker, is_blocker
from client.embedded.execution.calls import by_output, call_over_lists, read_returns
from client.embedded.execution.live_prompt import LivePrompt
from client.embedded.execution.prompt import Outcome, QueuedPrompt
from client.embedded.execution.running import PromptExecution


class Node:
    """A node that does what the test says; `ran` notes which nodes ran."""

    RETURN_TYPES: tuple[str, ...] = ("*",)
    FUNCTION = "run"
    OUTPUT_NODE = False
    ran: ClassVar[list[str]] = []

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {name: ("*", {}) for name in ("value", "other")}
        return {"optional": optional, "hidden": {"node_id": "UNIQUE_ID", "prompt": "DYNPROMPT"}}


class Give(Node):
    """Gives its value, or its own id."""

    def run(self, node_id: str, value: Any = None, **_: Any) -> Any:
        self.ran.append(node_id)
        return (node_id if value is None else value,)


class Show(Give):
    OUTPUT_NODE = True

    def run(self, node_id: str, value: Any = None, **_: Any) -> Any:
        self.ran.append(node_id)
        return {"ui": {"value": [value]}, "result": (value,)}


class Choose(Node):
    """Takes its first lazy input, and the second only if the first gives nothing."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = ("*", {"lazy": True})
        return {"required": {"value": lazy, "other": lazy}}

    def check_lazy_status(self, value: Any, other: Any) -> list[str]:
        if value is None:
            return ["value"]
        return ["other"] if value == "nothing" and other is None else []

    def run(self, value: Any, other: Any) -> Any:
        return ((value, other),)


class Block(Node):
    def run(self, value: Any = None, **_: Any) -> Any:
        return (ExecutionBlocker(value),)


class Expand(Node):
    """Adds two nodes and gives what the second of them gives, and its value."""

    RETURN_TYPES = ("*", "*")

    def run(self, node_id: str, value: Any = None, **_: Any) -> Any:
        graph = {
            f"{node_id}.1": {"class_type": "Give", "inputs": {"value": value}},
            f"{node_id}.2": {"class_type": "Show", "inputs": {"value": [f"{node_id}.1", 0]}},
        }
        return {"result": ([f"{node_id}.2", 0], value), "expand": graph}


class Circle(Node):
    """Adds two nodes that need each other."""

    def run(self, **_: Any) -> Any:
        graph = {
            name: {"class_type": "Give", "inputs": {"value": [other, 0]}}
            for name, other in (("a", "b"), ("b", "a"))
        }
        return {"result": (["a", 0],), "expand": graph}


class Unknown(Node):
    def run(self, **_: Any) -> Any:
        return {"result": (["a", 0],), "expand": {"a": {"class_type": "Nowhere", "inputs": {}}}}


class Later(Node):
    async def run(self, value: Any = None, **_: Any) -> Any:
        await asyncio.sleep(0.05)
        if value == "fail":
            raise ValueError("later")
        return (value,)


CLASSES = {
    each.__name__: each for each in (Give, Show, Choose, Block, Expand, Circle, Unknown, Later)
}


def run(prompt: dict[str, tuple[str, dict[str, Any]]]) -> tuple[Outcome, list[Any]]:
    """Runs nodes by id, the last for its output; returns the outcome and the events sent."""
    Node.ran.clear()
    sent: list[Any] = []
    nodes = {
        name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in prompt.items()
    }
    item = QueuedPrompt(0, "id", nodes, {"client_id": "me"}, [list(nodes)[-1]])
    execution = PromptExecution(item, CLASSES, lambda *message: sent.append(message[:2]))
    return execution.run(), sent


def shown(outcome: Outcome, node_id: str = "show") -> Any:
    assert outcome.succeeded, outcome.messages[-1]
    return outcome.outputs[node_id]["value"]


def test_a_lazy_input_that_nobody_asks_for_does_not_run():
    prompt = {
        "a": ("Give", {"value": "enough"}),
        "b": ("Give", {}),
        "c": ("Choose", {"value": ["a", 0], "other": ["b", 0]}),
        "show": ("Show", {"value": ["c", 0]}),
    }
    assert shown(run(prompt)[0]) == [("enough", None)]
    assert Node.ran == ["a", "show"]


def test_a_lazy_input_runs_when_it_is_asked_for_and_the_node_is_asked_again():
    prompt = {
        "a": ("Give", {"value": "nothing"}),
        "b": ("Give", {}),
        "c": ("Choose", {"value": ["a", 0], "other": ["b", 0]}),
        "show": ("Show", {"value": ["c", 0]}),
    }
    outcome, sent = run(prompt)
    assert shown(outcome) == [("nothing", "b")]
    assert Node.ran == ["a", "b", "show"]
    executing = [data["node"] for event, data in sent if event == "executing"]
    assert executing == ["c", "a", "b", "show"]


def test_asking_for_an_input_that_the_node_lacks_is_its_error(monkeypatch):
    monkeypatch.setattr(Choose, "check_lazy_status", lambda *_, **__: ["third"])
    outcome, _ = run({"a": ("Give", {}), "c": ("Choose", {"value": ["a", 0], "other": 1})})
    assert not outcome.succeeded
    assert "asks for 'third'" in outcome.messages[-1][1]["exception_message"]


def test_what_a_blocker_reaches_does_not_run_and_the_prompt_succeeds():
    prompt = {
        "a": ("Block", {}),
        "b": ("Give", {"value": ["a", 0]}),
        "show": ("Show", {"value": ["b", 0]}),
    }
    outcome, sent = run(prompt)
    assert outcome.succeeded
    assert outcome.outputs == {}
    assert Node.ran == []
    assert "execution_error" not in [event for event, _ in sent]


def test_the_message_of_a_blocker_is_told_once_and_is_no_failure():
    prompt = {
        "a": ("Block", {"value": "no picture"}),
        "b": ("Give", {"value": ["a", 0]}),
        "show": ("Show", {"value": ["b", 0]}),
    }
    outcome, sent = run(prompt)
    assert outcome.succeeded
    (told,) = [data for event, data in sent if event == "execution_error"]
    assert told["exception_message"] == "Execution Blocked: no picture"
    assert (told["exception_type"], told["node_id"]) == ("ExecutionBlocked", "b")
    assert "execution_error" not in [event for event, _ in outcome.messages]


def test_of_a_list_only_the_blocked_elements_are_left_out():
    class Double:
        FUNCTION = "run"

        def run(self, value: int) -> tuple[int]:
            return (value * 2,)

    blocker = ExecutionBlocker(None)
    returned = call_over_lists(Double(), {"value": [1, blocker, 3]})
    assert returned == [(2,), blocker, (6,)]
    read = read_returns(returned, Give)
    assert by_output(read.results, Give) == [[2, blocker, 6]]
    Listed = type("Listed", (), {"OUTPUT_IS_LIST": (True,)})
    assert by_output([([1, 2],), (blocker,)], Listed) == [[1, 2, blocker]]


def test_a_node_that_takes_lists_is_blocked_by_any_element():
    class Lists:
        FUNCTION = "run"
        INPUT_IS_LIST = True

        def run(self, value: list[Any]) -> Any:
            raise AssertionError

    (answer,) = call_over_lists(Lists(), {"value": [1, ExecutionBlocker("x")]})
    assert answer.message == "x"


def test_a_blocker_of_comfyui_itself_is_one():
    theirs = type("ExecutionBlocker", (), {"message": None})()
    assert is_blocker(theirs)
    assert not is_blocker("ExecutionBlocker")


def test_a_node_that_adds_nodes_gives_what_they_give():
    prompt = {
        "a": ("Give", {"value": 7}),
        "x": ("Expand", {"value": ["a", 0]}),
        "show": ("Show", {"value": ["x", 0], "other": ["x", 1]}),
    }
    outcome, sent = run(prompt)
    assert shown(outcome) == [7]
    assert Node.ran == ["a", "x.1", "x.2", "show"]
    assert outcome.outputs["x.2"] == {"value": [7]}
    assert outcome.meta["x.2"] == {
        "node_id": "x.2", "display_node": "x", "parent_node": "x", "real_node_id": "x"
    }  # fmt: skip
    executing = [
        (each["node"], each["display_node"]) for event, each in sent if event == "executing"
    ]
    assert executing == [("a", "a"), ("x", "x"), ("x.1", "x"), ("x.2", "x"), ("show", "show")]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("Circle", "Dependency cycle detected"), ("Unknown", "a node Nowhere, which does not exist")],
)
def test_added_nodes_that_cannot_run_are_the_error_of_the_node_that_added_them(kind, words):
    outcome, _ = run({"x": (kind, {}), "show": ("Show", {"value": ["x", 0]})})
    assert not outcome.succeeded
    failure = outcome.messages[-1][1]
    assert words in failure["exception_message"]
    assert (failure["node_id"], failure["node_type"]) == ("x", kind)


def test_no_two_nodes_may_add_the_same_node():
    prompt = LivePrompt({"1": {"class_type": "Give", "inputs": {}}})
    node = {"class_type": "Give", "inputs": {}, "override_display_id": "1"}
    prompt.add({"2": node}, "1")
    prompt.add({"3": node}, "2")
    assert prompt.all_node_ids() == {"1", "2", "3"}
    assert prompt.get_real_node_id("3") == prompt.get_display_node_id("3") == "1"
    assert prompt.get_parent_node_id("3") == "2"
    with pytest.raises(ValueError, match="exists already"):
        prompt.add({"1": node}, "3")
    with pytest.raises(ValueError, match="there is no node 9"):
        prompt.get_node("9")


def test_a_coroutine_is_waited_for():
    outcome, _ = run({"a": ("Later", {"value": 5}), "show": ("Show", {"value": ["a", 0]})})
    assert shown(outcome) == [5]


def test_the_coroutines_of_a_list_run_at_the_same_time():
    class Meet:
        FUNCTION = "run"
        here = 0

        async def run(self, value: int) -> tuple[int]:
            self.here += 1
            while self.here < 5:
                await asyncio.sleep(0.001)
            return (value,)

    called = call_over_lists(Meet(), {"value": [0, 1, 2, 3, 4]})
    assert called == [(0,), (1,), (2,), (3,), (4,)]


def test_a_coroutine_fails_as_any_node_does():
    outcome, _ = run({"a": ("Later", {"value": "fail"}), "show": ("Show", {"value": ["a", 0]})})
    assert outcome.messages[-1][1]["exception_message"] == "later\n"
    assert outcome.messages[-1][1]["node_id"] == "a"


def test_a_coroutine_that_waits_is_interrupted():
    async def for_ever() -> None:
        await asyncio.sleep(60)

    timer = threading.Timer(0.05, runtime.interrupt.set)
    timer.start()
    began = time.perf_counter()
    with pytest.raises(runtime.Interrupted):
        runtime.completed([for_ever()])
    assert time.perf_counter() - began < 10

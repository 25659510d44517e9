"""What is known of a graph while it is being queued."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest

from comfy_nodes.graph import queued

GRAPH = {
    "1": {"class_type": "A", "inputs": {"text": "x", "number": 5}},
    "2": {"class_type": "B", "inputs": {"text": ["1", 0]}},
    "3": {"class_type": "A"},
}


def test_nodes_of_a_class_are_found_by_their_id():
    body = {"prompt": GRAPH, "number": 1}
    assert queued.remember(body) is body
    assert queued.nodes("A") == {"1": GRAPH["1"]["inputs"], "3": {}}
    assert queued.nodes("C") == {}


@pytest.mark.parametrize(
    "body", [None, [], {}, {"prompt": None}, {"prompt": {"1": 5, "2": {"inputs": []}}}]
)
def test_a_malformed_body_forgets_the_graph_before_it(body):
    queued.remember({"prompt": GRAPH})
    queued.remember(body)
    assert queued.nodes("A") == {}


def test_something_is_found_out_once_for_each_graph():
    calls = []

    def find():
        calls.append(1)
        return len(calls)

    queued.remember({"prompt": GRAPH})
    assert [queued.once("count", find) for _ in range(3)] == [1, 1, 1]
    queued.remember({"prompt": GRAPH})
    assert queued.once("count", find) == 2


def test_typed_values_are_text_and_linked_or_missing_ones_are_not_known():
    inputs = {"text": "x", "number": 5, "linked": ["1", 0]}
    assert queued.typed(inputs, "text", optional=("number", "gone")) == {"text": "x", "number": "5"}
    for names, optional in ((("linked",), ()), (("gone",), ()), (("text",), ("linked",))):
        with pytest.raises(LookupError):
            queued.typed(inputs, *names, optional=optional)


def test_prompts_that_are_posted_at_the_same_time_do_not_see_each_other():
    async def post(name):
        queued.remember({"prompt": {name: {"class_type": "A", "inputs": {}}}})
        await asyncio.sleep(0)
        return list(queued.nodes("A"))

    async def both():
        return await asyncio.gather(post("1"), post("2"))

    assert asyncio.run(both()) == [["1"], ["2"]]


def test_the_server_shows_every_posted_prompt(monkeypatch):
    handlers = []
    server = ModuleType("server")
    server.PromptServer = SimpleNamespace(
        instance=SimpleNamespace(add_on_prompt_handler=handlers.append)
    )
    monkeypatch.setitem(sys.modules, "server", server)
    queued.register()
    assert handlers == [queued.remember]
    server.PromptServer = None
    queued.register()

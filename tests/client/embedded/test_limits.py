"""What the engine refuses before it takes memory, and that long prompts hold nobody up.

Covers: client.embedded.limits, client.embedded.api.bodies, client.embedded.execution.queue,
client.embedded.execution.validation, client.embedded.api.sockets.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from typing import Any

import pytest
import torch
from aiohttp import web

from client.embedded import runtime
from client.embedded.api import bodies, sockets
from client.embedded.api.sockets import SocketHub
from client.embedded.diffusion.schedules import NoiseLevels, make_sigmas
from client.embedded.engine import Engine
from client.embedded.errors import EmbeddedError
from client.embedded.execution import queue as prompt_queue
from client.embedded.execution import validation
from client.embedded.execution.prompt import Outcome, QueuedPrompt
from client.embedded.execution.queue import PromptQueue
from client.embedded.execution.running import PromptExecution
from client.embedded.execution.validation import validate_prompt
from client.embedded.limits import check_pixels, check_sampling
from client.embedded.nodes.images import EmptyImage, LoadImage
from client.embedded.nodes.models import EmptyLatentImage, VAEDecode
from client.embedded.nodes.sampling import _sample
from client.embedded.registry import Registry


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> dict[str, type]:
    runtime.use_folders(runtime.Folders.create(tmp_path_factory.mktemp("base")))
    return Registry().classes


def savers(count: int, **inputs: Any) -> dict[str, Any]:
    return {str(each): {"class_type": "SaveImage", "inputs": inputs} for each in range(count)}


def test_a_prompt_with_too_many_nodes_is_refused_in_words(classes, monkeypatch):
    monkeypatch.setattr(validation, "MOST_NODES", 20)
    assert validate_prompt(savers(20), classes).error["type"] != "too_many_nodes"
    error = validate_prompt(savers(21), classes).error
    assert error["type"] == "too_many_nodes"
    assert error["message"] == "The prompt has 21 nodes; this engine takes 20."


@pytest.mark.parametrize("inputs", [{}, {"images": ["nowhere", 0]}])
def test_of_many_bad_nodes_some_are_named_and_the_rest_counted(classes, inputs):
    verdict = validate_prompt(savers(2000, **inputs), classes)
    assert list(verdict.node_errors) == [str(each) for each in range(100)]
    assert len(verdict.node_errors["0"]["dependent_outputs"]) == 100
    assert verdict.node_errors["99"]["dependent_outputs"] == ["99"]
    assert verdict.error["details"].endswith("\nand 1,900 more outputs")
    assert len(json.dumps(verdict.node_errors)) < 300_000


def test_ten_times_as_many_bad_nodes_take_ten_times_as_long(classes):
    def seconds(count: int) -> float:
        best = 1e9
        for _ in range(3):
            began = time.perf_counter()
            validate_prompt(savers(count, images=["nowhere", 0]), classes)
            best = min(best, time.perf_counter() - began)
        return best

    validate_prompt(savers(10), classes)
    assert seconds(3000) < 40 * seconds(300) + 0.05  # were it quadratic: a hundredfold


def test_a_class_is_asked_once_per_prompt_what_its_inputs_are(classes, monkeypatch):
    asked = []
    declared = LoadImage.INPUT_TYPES()
    monkeypatch.setattr(LoadImage, "INPUT_TYPES", lambda: asked.append(1) or declared)
    loads = {
        f"load {each}": {"class_type": "LoadImage", "inputs": {"image": "no"}} for each in range(50)
    }
    shows = {
        str(each): {
            "class_type": "SaveImage",
            "inputs": {"images": [f"load {each}", 0], "filename_prefix": "x"},
        }
        for each in range(50)
    }
    assert len(validate_prompt(loads | shows, classes).node_errors) == 50
    assert len(asked) == 1


def test_a_long_prompt_reports_the_newest_nodes_only():
    class Pass:
        RETURN_TYPES = ("*",)
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"optional": {"value": ("*", {})}}

        def run(self, value: Any = None) -> Any:
            return (value,)

    prompt = {
        str(each): {"class_type": "Pass", "inputs": {"value": [str(each - 1), 0]} if each else {}}
        for each in range(300)
    }
    sent: list[Any] = []
    item = QueuedPrompt(0, "id", prompt, {}, ["299"])
    PromptExecution(item, {"Pass": Pass}, lambda *message: sent.append(message)).run()
    listed = [list(data["nodes"]) for event, data, _ in sent if event == "progress_state"]
    assert max(map(len, listed)) == 100
    assert listed[-1][-1] == "299"


def item(number: int, text: str = "") -> QueuedPrompt:
    prompt = {"1": {"class_type": "Show", "inputs": {"text": text}}}
    return QueuedPrompt(number, str(number), prompt, {}, ["1"])


def finish(queue: PromptQueue, number: int, text: str) -> None:
    queue.put(item(number, text))
    queue.take(timeout_s=0)
    queue.finish(Outcome(succeeded=True))


def test_the_history_forgets_the_oldest_prompts_when_it_is_too_large(monkeypatch):
    monkeypatch.setattr(prompt_queue, "MOST_HISTORY_BYTES", 10_000)
    queue = PromptQueue(lambda: None)
    for number in range(20):
        finish(queue, number, "x" * 2000)
    kept = list(json.loads(queue.history_json()))
    assert kept == ["16", "17", "18", "19"]
    finish(queue, 20, "x" * 50_000)
    assert list(json.loads(queue.history_json())) == ["20"]  # the last is kept, whatever its size
    finish(queue, 21, "x")
    finish(queue, 21, "x")
    assert list(json.loads(queue.history_json())) == ["21"]
    queue.delete_history(["21"])
    assert queue._history_size == 0


def test_the_history_forgets_the_oldest_prompts_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(prompt_queue, "MOST_HISTORY", 3)
    queue = PromptQueue(lambda: None)
    for number in range(5):
        finish(queue, number, "")
    assert list(json.loads(queue.history_json())) == ["2", "3", "4"]
    assert list(json.loads(queue.history_json(offset=1))) == ["3", "4"]
    assert list(json.loads(queue.history_json(max_items=1))) == ["4"]
    assert list(json.loads(queue.history_json(max_items=1, offset=0))) == ["2"]


def test_prompts_that_wait_are_bounded_too(monkeypatch):
    monkeypatch.setattr(prompt_queue, "MOST_WAITING_BYTES", 5000)
    queue = PromptQueue(lambda: None)
    queue.put(item(1, "x" * 3000))
    with pytest.raises(EmbeddedError, match="prompts are waiting"):
        queue.put(item(2, "x" * 3000))
    queue.delete(["1"])
    queue.put(item(2, "x" * 3000))


def test_nothing_is_done_to_a_prompt_that_does_not_run():
    queue = PromptQueue(lambda: None)
    queue.put(item(1))
    queue.put(item(2))
    queue.take(timeout_s=0)
    done: list[str] = []
    assert queue.if_running("1", lambda: done.append("1"))
    assert not queue.if_running("2", lambda: done.append("2"))
    queue.finish(Outcome())
    assert not queue.if_running("1", lambda: done.append("1"))
    assert done == ["1"]


def test_a_prompt_that_waits_takes_the_memory_of_its_text():
    prompt = {str(each): {"class_type": "A", "inputs": {"a": [1, 2]}} for each in range(200)}
    size = len(json.dumps(prompt))
    queue = PromptQueue(lambda: None)
    tracemalloc.start()
    for number in range(5):
        queue.put(QueuedPrompt(number, str(number), json.loads(json.dumps(prompt)), {}, []))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 8 * size
    assert queue.take(timeout_s=0) == QueuedPrompt(0, "0", prompt, {}, [])


def test_images_are_refused_by_size_before_they_are_made():
    check_pixels(10_000, 10_000, 1)
    with pytest.raises(EmbeddedError, match="lower the size or the batch"):
        check_pixels(10_000, 10_001, 1)
    for make in (EmptyImage().generate, EmptyLatentImage().generate):
        with pytest.raises(EmbeddedError, match="16384 x 16384 pixels x batch 4096 are"):
            make(16384, 16384, 4096)
    latent = {"samples": torch.zeros(1).expand(1, 4, 2048, 2048)}
    vae = type("Vae", (), {"factor": 8})()
    with pytest.raises(EmbeddedError, match="16384 x 16384 pixels"):
        VAEDecode().decode(latent, vae)


def test_sampling_is_refused_by_size_and_steps_before_it_begins():
    check_sampling(1024, 1024, 32, 100)
    with pytest.raises(EmbeddedError, match="lower the size or the batch"):
        check_sampling(1024, 1024, 33, 1)
    with pytest.raises(EmbeddedError, match="lower the steps or the batch"):
        check_sampling(1024, 1024, 32, 10_000)
    latent = {"samples": torch.zeros(1).expand(33, 4, 128, 128)}
    with pytest.raises(EmbeddedError, match="1024 x 1024 pixels x batch 33"):
        _sample(None, None, None, torch.zeros(3), latent)


def test_a_schedule_of_a_billion_levels_is_refused():
    levels = NoiseLevels(torch.linspace(1, 0.1, 1000))
    assert len(make_sigmas(levels, "karras", 10_000, 0.01)) == 10_001
    with pytest.raises(EmbeddedError, match="raise denoise"):
        make_sigmas(levels, "karras", 10_000, 0.009)


def test_a_socket_that_does_not_read_is_sent_no_more_than_fits(monkeypatch):
    monkeypatch.setattr(sockets, "MOST_WAITING_BYTES", 100)

    async def fill() -> list[Any]:
        line = sockets._Line()
        for letter in "abc":
            line.put(letter * 60)
        line.put(None)
        return [await line.get(), await line.get()]

    assert asyncio.run(fill()) == ["a" * 60, None]


def test_an_event_that_nobody_hears_is_not_even_written(monkeypatch):
    hub = SocketHub(dict)
    hub.bind(type("Loop", (), {"call_soon_threadsafe": lambda *_: 1 / 0})())
    hub.send("status", {"not JSON": object()})
    hub.send("status", {"not JSON": object()}, "nobody")


def test_work_aside_hands_on_its_result_or_its_error_and_leaves_the_loop_free():
    async def both() -> tuple[Any, float]:
        ticks, began = 0, time.perf_counter()
        work = asyncio.ensure_future(bodies.aside(lambda: time.sleep(0.2) or "done"))
        while not work.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 3
        with pytest.raises(ZeroDivisionError):
            await bodies.aside(lambda: 1 / 0)
        return work.result(), time.perf_counter() - began

    assert asyncio.run(both())[0] == "done"


def test_json_that_is_nested_too_deeply_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        bodies.parse(b"[" * 100_000)


class Body:
    """A request of chunks, as far as its reader looks."""

    def __init__(self, chunks: list[bytes], length: int | None = None) -> None:
        self.content_length = length
        self.content = self
        self.chunks = chunks
        self.read = 0

    async def iter_any(self):
        for chunk in self.chunks:
            self.read += 1
            yield chunk


def test_a_body_is_read_up_to_its_limit_only(monkeypatch):
    monkeypatch.setattr(bodies, "MOST_JSON_BYTES", 10)
    small, announced, endless = Body([b'{"a"', b": 1}"]), Body([b"x"], 11), Body([b"12345"] * 99)
    assert asyncio.run(bodies.read_json(small)) == {"a": 1}
    assert asyncio.run(bodies.read_json(Body([]), empty={})) == {}
    for body, read in ((announced, 0), (endless, 3)):
        with pytest.raises(web.HTTPRequestEntityTooLarge, match="Too Large") as refusal:
            asyncio.run(bodies.read_json(body))
        assert "post several prompts" in refusal.value.text
        assert body.read == read


def test_a_body_of_too_many_small_parts_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(bodies, "MOST_JSON_PARTS", 4)
    assert asyncio.run(bodies.read_json(Body([b'[[], {}, "a"', b", {}]"]))) == [[], {}, "a", {}]
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        asyncio.run(bodies.read_json(Body([b"[[], {}, [], {}]"])))


def test_a_worker_that_only_loads_libraries_is_not_waited_for(classes):
    engine = Engine(Registry(), lambda *_: None)
    over = threading.Event()
    engine._worker = threading.Thread(target=over.wait, daemon=True)
    engine.start()
    try:
        assert engine.is_loading()
        began = time.monotonic()
        engine.stop(timeout_s=60)
        assert time.monotonic() - began < 30
        assert engine.is_busy()
    finally:
        over.set()

"""GET and POST /queue, and POST /history.

Covers: client.embedded.execution.queue.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest


def waiting(steps: int, seconds: float = 0.02) -> dict[str, Any]:
    salt = uuid.uuid4().hex
    return {
        "1": {
            "class_type": "ContractWait",
            "inputs": {"steps": steps, "seconds": seconds, "salt": salt},
        },
        "2": {"class_type": "ContractShow", "inputs": {"value": ["1", 0]}},
    }


@pytest.fixture
def busy(server):
    """The id of a prompt that runs until the test is over."""
    prompt_id = server.queue(waiting(900))
    while not server.get("/queue").json()["queue_running"]:
        time.sleep(0.01)
    yield prompt_id
    server.post("/queue", {"clear": True})
    server.post("/interrupt", {"prompt_id": prompt_id})
    server.wait(prompt_id)


def pending_ids(server) -> list[str]:
    return [row[1] for row in server.get("/queue").json()["queue_pending"]]


def test_a_row_holds_number_id_prompt_extra_data_and_outputs(server, busy):
    prompt = waiting(1)
    waits = server.queue(prompt, client_id="somebody")
    queue = server.get("/queue").json()
    assert [row[1] for row in queue["queue_running"]] == [busy]
    (row,) = queue["queue_pending"]
    assert len(row) == 5
    assert row[1:3] == [waits, prompt]
    assert row[3]["client_id"] == "somebody"
    assert row[4] == ["2"]


def test_a_waiting_prompt_is_not_in_the_history(server, busy):
    assert server.get(f"/history/{busy}").json() == {}
    assert server.get(f"/history/{server.queue(waiting(1))}").json() == {}
    assert server.get("/history/unheard-of").json() == {}


def test_deleting_takes_waiting_prompts_only_and_leaves_no_trace(server, busy):
    kept, gone = server.queue(waiting(1)), server.queue(waiting(1))
    assert server.post("/queue", {"delete": [gone, busy, "unheard-of"]}).status_code == 200
    assert pending_ids(server) == [kept]
    assert [row[1] for row in server.get("/queue").json()["queue_running"]] == [busy]
    assert server.get(f"/history/{gone}").json() == {}


def test_clearing_empties_the_queue(server, busy):
    server.queue(waiting(1))
    assert server.post("/queue", {"clear": True}).status_code == 200
    assert pending_ids(server) == []


def test_lower_numbers_run_first_and_ties_go_by_id(server, busy):
    order = [("0", 2), ("f", 1), ("b", 1), ("e", 1), ("a", 1), ("d", 1), ("c", -5)]
    ids = {name: name + str(uuid.uuid4())[1:] for name, _ in order}
    for name, number in order:
        server.queue(waiting(0), prompt_id=ids[name], number=number)
    assert pending_ids(server)[0] == ids["c"]
    server.post("/interrupt", {"prompt_id": busy})
    for prompt_id in ids.values():
        server.wait(prompt_id)
    finished = [each for each in server.get("/history").json() if each in ids.values()]
    assert finished == [ids[name] for name in ("c", "a", "b", "d", "e", "f", "0")]


def test_the_same_id_and_number_twice_is_a_server_error(server, busy):
    prompt_id = str(uuid.uuid4())
    server.queue(waiting(0), prompt_id=prompt_id, number=5)
    answer = server.post("/prompt", {"prompt": waiting(0), "prompt_id": prompt_id, "number": 5})
    assert answer.status_code == 500


def test_history_can_be_limited_deleted_and_cleared(server):
    first, second = (server.queue(waiting(0)) for _ in range(2))
    server.wait(first)
    server.wait(second)
    assert list(server.get("/history?max_items=1").json()) == [second]
    assert server.post("/history", {"delete": [first, "unheard-of"]}).status_code == 200
    assert server.get(f"/history/{first}").json() == {}
    assert server.get(f"/history/{second}").json() != {}
    assert server.post("/history", {"clear": True}).status_code == 200
    assert server.get("/history").json() == {}

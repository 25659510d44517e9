"""The events of /ws: which, in what order, to whom; and what the history keeps of them.

Covers: client.embedded.api.sockets, client.embedded.engine.
"""

from __future__ import annotations

import uuid
from typing import Any


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def waiting(steps: int = 3, seconds: float = 0.01) -> dict[str, Any]:
    """A prompt that takes steps; the salt keeps a server with a cache from remembering it."""
    return {
        "1": node("ContractWait", steps=steps, seconds=seconds, salt=uuid.uuid4().hex),
        "2": node("ContractShow", value=["1", 0]),
    }


def failing(reason: str = "the reason") -> dict[str, Any]:
    return {
        "1": node("ContractWait", steps=1, seconds=0.0, salt=uuid.uuid4().hex),
        "2": node("ContractFail", reason=reason, number=["1", 0]),
        "3": node("ContractShow", value=["2", 0]),
    }


def test_the_first_event_tells_the_client_its_id(listener):
    event, data = listener.next()
    assert event == "status"
    assert data["sid"] == listener.client_id
    assert isinstance(data["status"]["exec_info"]["queue_remaining"], int)


def test_the_events_of_a_prompt_come_in_order(server, listener):
    prompt_id = server.queue(waiting(3, 0.15), client_id=listener.client_id)
    events = listener.until_done()
    names = [event for event, _ in events if event not in ("status", "progress_state")]
    assert names == [
        "execution_start",
        "execution_cached",
        "executing",
        *["progress"] * 3,
        "executing",
        "executed",
        "execution_success",
        "executing",
    ]
    assert all(data["prompt_id"] == prompt_id for event, data in events if event != "status")


def test_of_steps_that_follow_fast_the_first_and_the_last_are_always_reported(
    server, listener, behaviour
):
    server.queue(waiting(3, 0.0), client_id=listener.client_id)
    steps = [data["value"] for event, data in listener.until_done() if event == "progress"]
    assert steps == ([1, 2, 3] if behaviour.reports_every_step else [1, 3])


def test_the_events_carry_what_a_client_needs(server, listener):
    prompt_id = server.queue(waiting(), client_id=listener.client_id)
    events = [(event, data) for event, data in listener.until_done() if event != "status"]
    by_name = {
        event: data for event, data in events if event not in ("executing", "progress_state")
    }
    assert by_name["execution_cached"]["nodes"] == []
    assert by_name["progress"] == {"value": 3, "max": 3, "prompt_id": prompt_id, "node": "1"}
    assert by_name["executed"]["node"] == by_name["executed"]["display_node"] == "2"
    assert by_name["executed"]["output"]["value"] == [3]
    assert [data["node"] for event, data in events if event == "executing"] == ["1", "2", None]
    states = [data["nodes"] for event, data in events if event == "progress_state"]
    assert states[0]["1"]["state"] == "running"
    assert states[-1]["1"] == {
        "value": 3,
        "max": 3,
        "state": "finished",
        "node_id": "1",
        "prompt_id": prompt_id,
        "display_node_id": "1",
        "parent_node_id": None,
        "real_node_id": "1",
    }


def test_the_status_counts_the_queue_down(server, listener):
    server.queue(waiting(), client_id=listener.client_id)
    counts = [
        data["status"]["exec_info"]["queue_remaining"]
        for event, data in listener.until_done()
        if event == "status"
    ]
    assert counts[-1] == 0
    assert 1 in counts


def test_a_prompt_of_somebody_else_shows_its_status_only(server, listener):
    other = server.listen()
    server.queue(waiting(), client_id=other.client_id)
    other.until_done()
    server.queue(waiting(1), client_id=listener.client_id)
    before = []
    while (event := listener.next()[0]) != "execution_start":
        before.append(event)
    other.socket.close()
    assert set(before) == {"status"}


def test_a_prompt_without_client_id_tells_everybody_its_progress(server, listener):
    prompt_id = server.queue(waiting())
    server.wait(prompt_id)
    server.queue(waiting(1), client_id=listener.client_id)
    events = [
        (event, data) for event, data in listener.until_done() if data.get("prompt_id") == prompt_id
    ]
    assert {event for event, _ in events} == {"progress", "progress_state"}


def test_a_failure_names_node_and_reason(server, listener):
    prompt_id = server.queue(failing(), client_id=listener.client_id)
    failure = next(data for event, data in listener.until_done() if event == "execution_error")
    assert failure["prompt_id"] == prompt_id
    assert (failure["node_id"], failure["node_type"]) == ("2", "ContractFail")
    assert failure["exception_message"] == "the reason\n"
    assert failure["exception_type"] == "ValueError"
    assert failure["executed"] == ["1"]
    assert failure["current_inputs"] == {"reason": ["the reason"], "number": [1]}
    assert any("raise ValueError(reason)" in line for line in failure["traceback"])


def test_the_history_keeps_a_failure_and_the_next_prompt_runs(server):
    entry = server.run(failing())
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    assert entry["status"]["messages"][-1][0] == "execution_error"
    assert entry["outputs"] == {}
    assert server.run(waiting(1))["status"]["status_str"] == "success"


def test_what_was_shown_before_a_failure_is_kept(server):
    prompt = failing() | {
        "4": node("ContractShow", value=["1", 0]),
        "2": node("ContractFail", reason="", number=["4", 0]),
    }
    prompt["2"]["inputs"]["number"] = ["1", 0]
    prompt["2"]["inputs"]["reason"] = ["4", 0]
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "error"
    assert entry["outputs"]["4"]["value"] == [1]


def test_the_history_of_a_success_holds_prompt_outputs_status_and_meta(server):
    prompt = waiting(1)
    prompt_id = server.queue(
        prompt, client_id="somebody", extra_data={"extra_pnginfo": {"workflow": {"id": 1}}}
    )
    entry = server.wait(prompt_id)
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    number, its_id, its_prompt, extra_data, outputs = entry["prompt"]
    assert isinstance(number, (int, float))
    assert (its_id, its_prompt, outputs) == (prompt_id, prompt, ["2"])
    assert extra_data["client_id"] == "somebody"
    assert extra_data["extra_pnginfo"] == {"workflow": {"id": 1}}
    assert isinstance(extra_data["create_time"], int)
    assert [event for event, _ in entry["status"]["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert all(isinstance(data["timestamp"], int) for _, data in entry["status"]["messages"])
    assert entry["meta"] == {
        "2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}
    }


def test_an_interrupt_stops_a_node_between_its_steps(server, listener):
    prompt_id = server.queue(waiting(600, 0.02), client_id=listener.client_id)
    while listener.next()[0] != "progress":
        pass
    assert server.post("/interrupt", {"prompt_id": "another"}).status_code == 200
    assert listener.next()[0] in ("progress", "progress_state")
    assert server.post("/interrupt", {"prompt_id": prompt_id}).status_code == 200
    interrupted = next(
        data for event, data in listener.until_done() if event == "execution_interrupted"
    )
    assert (interrupted["node_id"], interrupted["node_type"]) == ("1", "ContractWait")
    entry = server.wait(prompt_id)
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_an_interrupt_without_a_body_stops_whatever_runs(server, listener):
    prompt_id = server.queue(waiting(600, 0.02), client_id=listener.client_id)
    while listener.next()[0] != "progress":
        pass
    assert server.post("/interrupt").status_code == 200
    assert server.wait(prompt_id)["status"]["messages"][-1][0] == "execution_interrupted"
    assert server.run(waiting(1))["status"]["completed"]

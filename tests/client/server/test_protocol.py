"""Messages become events; whatever is not understood becomes None and never an exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.server.protocol import (
    ERROR,
    INTERRUPTED,
    SUCCESS,
    Executed,
    Executing,
    JobDone,
    Progress,
    QueueStatus,
    Started,
    describe_refusal,
    parse_history_entry,
    parse_message,
    parse_queue,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("status", {"status": {"exec_info": {"queue_remaining": 2}}}, QueueStatus(2)),
        ("execution_start", {"prompt_id": "p"}, Started("p")),
        ("executing", {"prompt_id": "p", "node": "8"}, Executing("p", "8")),
        ("executing", {"prompt_id": "p", "node": None}, Executing("p", None)),
        (
            "progress",
            {"prompt_id": "p", "node": "8", "value": 3, "max": 20},
            Progress("p", "8", 3, 20),
        ),
        (
            "executed",
            {"prompt_id": "p", "node": "9", "output": {"images": []}},
            Executed("p", "9", {"images": []}),
        ),
        ("execution_success", {"prompt_id": "p"}, JobDone("p", SUCCESS)),
        (
            "execution_error",
            {
                "prompt_id": "p", "node_id": "4", "node_type": "VAEDecode",
                "exception_type": "torch.OutOfMemoryError", "exception_message": "no\n memory",
            },
            JobDone("p", ERROR, "node 4 (VAEDecode) failed: OutOfMemoryError: no memory"),
        ),
        (
            "execution_interrupted",
            {"prompt_id": "p", "node_id": "4", "node_type": "KSampler"},
            JobDone("p", INTERRUPTED, "interrupted at node 4 (KSampler)"),
        ),
    ],
)  # fmt: skip
def test_a_message_becomes_its_event(kind, data, event):
    assert parse_message(json.dumps({"type": kind, "data": data})) == event


@pytest.mark.parametrize(
    "text",
    [b"\x00\x00\x00\x01", "", "{", "[]", "7", '{"type": "progress"}', '{"type": 3, "data": {}}'],
)
def test_previews_and_nonsense_are_ignored(text):
    assert parse_message(text) is None


@given(
    st.sampled_from(["status", "executing", "progress", "executed", "execution_error", "x"]),
    json_values,
)
def test_no_message_of_a_known_kind_can_raise(kind, data):
    parse_message(json.dumps({"type": kind, "data": data}))
    parse_message(
        json.dumps(
            {"type": kind, "data": {"prompt_id": data, "node": data, "value": data, "max": data}}
        )
    )


@given(json_values)
def test_no_queue_history_or_refusal_can_raise(value):
    parse_queue({"queue_running": value, "queue_pending": [value]})
    parse_history_entry({"outputs": value, "status": {"status_str": value, "messages": [value]}})
    assert "\n" not in describe_refusal(
        {"error": value, "node_errors": {"3": value, "4": {"errors": [value]}}}
    )


def entry(status, *messages):
    return {
        "outputs": {"9": {}},
        "status": {"status_str": status, "completed": True, "messages": list(messages)},
    }


def test_history_tells_an_interruption_from_an_error_by_the_last_message():
    data = {"node_id": "4", "node_type": "KSampler"}
    assert (
        parse_history_entry(entry("error", ["execution_interrupted", data])).outcome == INTERRUPTED
    )
    assert parse_history_entry(entry("error", ["execution_error", data])).outcome == ERROR
    assert parse_history_entry(entry("error")).outcome == ERROR
    assert (
        parse_history_entry(
            entry("success", ["execution_start", {}], ["execution_success", {}])
        ).outcome
        == SUCCESS
    )
    assert parse_history_entry(None) is None


def test_the_queue_names_ids_of_both_kinds():
    queue = parse_queue(
        {
            "queue_running": [[0, "a", {}, {}, []]],
            "queue_pending": [[1, "b", {}, {}, []], "odd", [2]],
        }
    )
    assert queue.running == {"a"}
    assert queue.pending == {"b"}
    assert "a" in queue
    assert "b" in queue
    assert "c" not in queue


def test_a_refusal_names_every_node_in_one_line():
    body = {
        "error": {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
        },
        "node_errors": {
            "1": {
                "class_type": "CheckpointLoaderSimple",
                "errors": [
                    {
                        "type": "value_not_in_list",
                        "message": "Value not in list",
                        "details": "ckpt_name: 'x' not in []",
                    }
                ],
            }
        },
    }
    assert (
        describe_refusal(body)
        == "node 1 (CheckpointLoaderSimple): Value not in list: ckpt_name: 'x' not in []"
    )

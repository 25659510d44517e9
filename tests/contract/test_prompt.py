"""POST /prompt: what is accepted, what is refused, and in which words.

Covers: client.embedded.execution.validation.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

SHOW = {"class_type": "ContractShow", "inputs": {"value": ["1", 0]}}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def shown(first: dict[str, Any]) -> dict[str, Any]:
    """A prompt that shows what node 1 gives."""
    return {"1": first, "2": SHOW}


GOOD = shown(node("ContractAdd", a=1, b=2))


def refusal_type(answer) -> str:
    """The error's type in an answer that refuses a whole prompt and blames no node's input."""
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "node_errors"}
    assert set(answer.json()["error"]) == {"type", "message", "details", "extra_info"}
    assert answer.json()["node_errors"] == {}
    return answer.json()["error"]["type"]


def test_a_good_prompt_is_queued_with_an_id_and_a_number(server):
    answer = server.post("/prompt", {"prompt": GOOD}).json()
    assert set(answer) == {"prompt_id", "number", "node_errors"}
    assert answer["node_errors"] == {}
    assert uuid.UUID(answer["prompt_id"])
    assert server.wait(answer["prompt_id"])["outputs"]["2"]["value"] == [3]


def test_numbers_rise_and_front_makes_them_negative(server):
    first = server.post("/prompt", {"prompt": GOOD}).json()["number"]
    assert server.post("/prompt", {"prompt": GOOD}).json()["number"] == first + 1
    assert server.post("/prompt", {"prompt": GOOD, "front": True}).json()["number"] == -(first + 2)
    assert server.post("/prompt", {"prompt": GOOD, "number": 7}).json()["number"] == 7.0


def test_a_canonical_uuid_is_taken_as_prompt_id(server):
    prompt_id = str(uuid.uuid4())
    assert server.queue(GOOD, prompt_id=prompt_id) == prompt_id
    assert server.wait(prompt_id)["status"]["completed"]


@pytest.mark.parametrize("spelt", ["mine-{}".format, lambda it: it.hex, lambda it: str(it).upper()])
def test_any_other_prompt_id_is_taken_as_it_is_or_refused(server, behaviour, spelt):
    prompt_id = spelt(uuid.UUID(int=uuid.uuid4().int | 0xA))  # has a letter
    answer = server.post("/prompt", {"prompt": GOOD, "prompt_id": prompt_id})
    if behaviour.takes_any_prompt_id:
        assert answer.json()["prompt_id"] == prompt_id
        assert server.wait(prompt_id)["status"]["completed"]
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_prompt_id"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "no_prompt"),
        ({"prompt": {}}, "prompt_no_outputs"),
        ({"prompt": {"1": node("ContractAdd", a=1)}}, "prompt_no_outputs"),
    ],
)
def test_a_prompt_that_cannot_run_at_all_is_refused(server, body, kind):
    assert refusal_type(server.post("/prompt", body)) == kind


@pytest.mark.parametrize("first", [node("NoSuchNode"), {"inputs": {}}])
def test_a_node_of_no_known_class_is_refused(server, behaviour, first):
    answer = server.post("/prompt", {"prompt": {"1": first}})
    assert refusal_type(answer) == behaviour.unknown_class


def test_a_node_that_is_no_object_is_refused_and_the_server_lives_on(server, behaviour):
    answer = server.post("/prompt", {"prompt": {"1": [1, 2]}})
    assert answer.status_code == behaviour.node_that_is_no_object
    assert server.run(GOOD)["status"]["completed"]


@pytest.mark.parametrize(
    ("bad", "kind", "details"),
    [
        (node("ContractAdd"), "required_input_missing", "a"),
        (
            node("ContractAdd", a="x"),
            "invalid_input_type",
            "a, x, invalid literal for int() with base 10: 'x'",
        ),
        (node("ContractAdd", a=None), "invalid_input_type", None),
        (node("ContractAdd", a=1001), "value_bigger_than_max", "a"),
        (node("ContractAdd", a=1, b=-1001), "value_smaller_than_min", "b"),
        (node("ContractAdd", a=["1"]), "bad_linked_input", "a"),
        (node("ContractAdd", a=["3", 0]), "return_type_mismatch", None),
        (
            node("ContractChecked", number=1, choice="three", amount=1),
            "value_not_in_list",
            "choice: 'three' not in ['one', 'two']",
        ),
        (
            node("ContractChecked", number=100, choice="one", amount=1),
            "custom_validation_failed",
            "number - 100 is far too much",
        ),
        (
            node("ContractChecked", number=1, choice="one", amount=11),
            "value_bigger_than_max",
            "amount",
        ),
    ],
)
def test_a_bad_input_is_named(server, bad, kind, details):
    prompt = shown(bad) | {"3": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    ((node_id, found),) = answer.json()["node_errors"].items()
    assert node_id == "1"
    assert found["class_type"] == bad["class_type"]
    assert found["dependent_outputs"] == ["2"]
    assert [each["type"] for each in found["errors"]] == [kind]
    assert {"type", "message", "details", "extra_info"} == set(found["errors"][0])
    assert (
        found["errors"][0]["extra_info"]["input_name"] in bad["inputs"]
        or kind == "required_input_missing"
    )
    if details is not None:
        assert found["errors"][0]["details"] == details


def test_a_value_out_of_range_is_reported_with_the_declaration_of_its_input(server):
    answer = server.post("/prompt", {"prompt": shown(node("ContractAdd", a=1001))}).json()
    error = answer["node_errors"]["1"]["errors"][0]
    assert error["message"] == "Value 1001 bigger than max of 1000"
    assert error["extra_info"]["received_value"] == 1001
    assert error["extra_info"]["input_config"] == ["INT", {"default": 0, "min": -1000, "max": 1000}]


def test_a_node_that_validates_an_input_itself_sets_its_own_limits(server):
    entry = server.run(shown(node("ContractChecked", number=50, choice="one", amount=1)))
    assert entry["outputs"]["2"]["value"] == [50]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (
            shown(node("ContractAdd", a=1)) | {"2": node("ContractShow", value=["9", 0])},
            "exception_during_validation",
        ),
        (
            shown(node("ContractAdd", a=1)) | {"2": node("ContractShow", value=["1", 7])},
            "exception_during_validation",
        ),
        (shown(node("ContractAdd", a=["9", 0])), "exception_during_inner_validation"),
        ({"1": {"class_type": "ContractShow"}}, "exception_during_validation"),
    ],
)
def test_a_link_to_nowhere_is_refused(server, prompt, kind):
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 400
    assert kind in [
        each["type"] for found in answer.json()["node_errors"].values() for each in found["errors"]
    ]


def test_a_cycle_is_refused(server):
    prompt = {"1": node("ContractAdd", a=["3", 0]), "3": node("ContractAdd", a=["1", 0]), "2": SHOW}
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"


def test_one_bad_output_of_two_is_left_out_and_reported(server):
    prompt = GOOD | {"3": node("ContractAdd", a="x"), "4": node("ContractShow", value=["3", 0])}
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 200
    assert set(answer.json()["node_errors"]) == {"3"}
    entry = server.wait(answer.json()["prompt_id"])
    assert set(entry["outputs"]) == {"2"}
    assert entry["status"]["status_str"] == "success"


def test_values_are_converted_to_the_declared_type(server):
    entry = server.run(shown(node("ContractAdd", a="4", b=2.9)))
    assert entry["outputs"]["2"]["value"] == [6]


@pytest.mark.parametrize(
    "body", [b"{", b"", b'{"prompt": [1]}', b'{"prompt": null}', b'{"prompt": {}, "number": "x"}']
)
def test_a_malformed_body_is_answered_with_500_and_the_server_lives_on(server, body):
    answer = server.post("/prompt", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 500
    assert server.run(GOOD)["status"]["completed"]


def test_a_page_of_another_site_is_refused(server):
    assert (
        server.post(
            "/prompt", {"prompt": GOOD}, headers={"Origin": "http://elsewhere.example"}
        ).status_code
        == 403
    )
    assert (
        server.post("/prompt", {"prompt": GOOD}, headers={"Origin": server.url}).status_code == 200
    )


def test_a_body_over_100_megabytes_is_refused(server):
    body = b'{"prompt": "' + b"x" * (100 * 1024 * 1024) + b'"}'
    answer = server.post("/prompt", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_every_route_is_there_under_api_as_well(server):
    prompt_id = server.post("/api/prompt", {"prompt": GOOD}).json()["prompt_id"]
    assert server.wait(prompt_id) == server.get(f"/api/history/{prompt_id}").json()[prompt_id]
    assert set(server.get("/api/queue").json()) == {"queue_running", "queue_pending"}

"""What a server tells of its jobs, its models and itself.

Covers: client.embedded.api.routes, client.embedded.execution.jobs.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def waiting(steps: int, seconds: float = 0.02) -> dict[str, Any]:
    return {
        "1": node("ContractWait", steps=steps, seconds=seconds, salt=uuid.uuid4().hex),
        "2": node("ContractShow", value=["1", 0]),
    }


def picture() -> dict[str, Any]:
    color = uuid.uuid4().int % 0xFFFFFF
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=color),
        "2": node("PreviewImage", images=["1", 0]),
    }


def job_of(server, job_id: str) -> dict[str, Any]:
    answer = server.get(f"/api/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


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


def test_a_finished_job_shows_its_picture(server):
    prompt_id = server.queue(picture(), extra_data={"extra_pnginfo": {"workflow": {"id": "w"}}})
    entry = server.wait(prompt_id)
    job = job_of(server, prompt_id)
    (image,) = entry["outputs"]["2"]["images"]
    assert (job["id"], job["status"], job["workflow_id"]) == (prompt_id, "completed", "w")
    assert job["outputs_count"] == 1
    assert job["preview_output"] == image | {"nodeId": "2", "mediaType": "images"}
    assert job["create_time"] <= job["execution_start_time"] <= job["execution_end_time"]
    assert job["outputs"] == entry["outputs"]
    assert job["execution_status"] == entry["status"]
    assert job["workflow"] == {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]}


def test_a_failed_job_says_why(server):
    prompt = {
        "1": node("ContractFail", reason=uuid.uuid4().hex, number=1),
        "2": node("ContractShow", value=["1", 0]),
    }
    prompt_id = server.queue(prompt)
    server.wait(prompt_id)
    job = job_of(server, prompt_id)
    assert job["status"] == "failed"
    assert job["execution_error"]["exception_message"].strip() == prompt["1"]["inputs"]["reason"]


def test_jobs_that_run_wait_and_were_stopped_are_told_apart(server, busy, behaviour):
    waits = server.queue(waiting(1))
    assert job_of(server, busy)["status"] == "in_progress"
    job = job_of(server, waits)
    assert (job["status"], job["outputs_count"]) == ("pending", 0)
    listed = server.get("/api/jobs?status=pending,in_progress").json()
    assert {each["id"] for each in listed["jobs"]} == {busy, waits}
    server.post("/queue", {"delete": [waits]})
    server.post("/interrupt", {"prompt_id": busy})
    server.wait(busy)
    assert job_of(server, busy)["status"] == behaviour.stopped_job


def test_an_unknown_job_is_not_found(server):
    answer = server.get(f"/api/jobs/{uuid.uuid4()}")
    assert (answer.status_code, answer.json()) == (404, {"error": "Job not found"})


def test_jobs_are_listed_newest_first_in_pages(server):
    ids = []
    for _ in range(3):
        ids.append(server.queue(waiting(0)))
        server.wait(ids[-1])
        time.sleep(0.005)
    page = server.get("/api/jobs?limit=2&status=completed").json()
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    assert page["pagination"]["limit"] == 2
    assert page["pagination"]["has_more"]
    second = server.get("/api/jobs?limit=2&offset=2&status=completed").json()
    assert second["jobs"][0]["id"] == ids[0]
    assert second["pagination"]["total"] == page["pagination"]["total"]
    oldest = server.get("/api/jobs?sort_order=asc&status=completed").json()["jobs"]
    assert [job["id"] for job in oldest[-3:]] == ids


@pytest.mark.parametrize("query", ["status=done", "sort_by=name", "sort_order=up", "limit=0"])
def test_a_question_about_jobs_that_makes_no_sense_is_refused(server, query):
    answer = server.get(f"/api/jobs?{query}")
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


def test_jobs_are_cancelled_whether_they_run_or_wait(server, busy, behaviour):
    if not behaviour.cancels_jobs:
        pytest.skip("this version has no routes to cancel jobs")
    waits = server.queue(waiting(1))
    done = {"cancelled": True}
    assert server.post(f"/api/jobs/{waits}/cancel").json() == done
    assert server.get(f"/api/jobs/{waits}").status_code == 404
    assert server.post("/api/jobs/cancel", {"job_ids": [waits, busy]}).json() == done
    assert server.wait(busy)["status"]["messages"][-1][0] == "execution_interrupted"
    assert server.post("/api/jobs/cancel", {"job_ids": [waits, busy]}).json() != done
    assert server.post(f"/api/jobs/{busy}/cancel").json() == {"cancelled": False}


@pytest.mark.parametrize("body", [{"job_ids": "x"}, {"job_ids": ["x"]}, [1]])
def test_ids_that_are_none_are_not_cancelled(server, behaviour, body):
    if not behaviour.cancels_jobs:
        pytest.skip("this version has no routes to cancel jobs")
    answer = server.post("/api/jobs/cancel", body)
    assert answer.status_code == 400
    assert "job_ids" in answer.json()["error"]


def test_models_are_listed_by_folder(server):
    folders = server.get("/models").json()
    assert {"checkpoints", "embeddings"} <= set(folders)
    names = server.get("/models/checkpoints").json()
    described = server.get("/object_info/CheckpointLoaderSimple").json()["CheckpointLoaderSimple"]
    assert names == described["input"]["required"]["ckpt_name"][0]
    assert isinstance(server.get("/models/embeddings").json(), list)
    assert server.get("/models/no-such-folder").status_code == 404
    assert isinstance(server.get("/embeddings").json(), list)


def test_the_features_of_a_server_are_told_by_http_and_on_the_socket(server, listener):
    features = server.get("/features").json()
    assert features["max_upload_size"] == 100 * 1024 * 1024
    assert isinstance(features["supports_preview_metadata"], bool)
    listener.socket.send('{"type": "feature_flags", "data": {}}')
    while True:
        event, data = listener.next()
        if event == "feature_flags":
            break
    assert data == features

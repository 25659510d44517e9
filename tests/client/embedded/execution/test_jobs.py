"""Prompts as jobs: what is shown of them, and which are listed.

Covers: client.embedded.execution.jobs, client.embedded.execution.queue.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from client.embedded.execution.jobs import JobQuery, JobState, full_description, wrong_ids
from client.embedded.execution.prompt import Outcome, QueuedPrompt
from client.embedded.execution.queue import PromptQueue

SAVED = {"filename": "a.png", "subfolder": "", "type": "output"}
SHOWN = SAVED | {"type": "temp"}


def queued(number: int, *, workflow: str = "w", created: int = 0) -> QueuedPrompt:
    extra = {"create_time": created or number, "extra_pnginfo": {"workflow": {"id": workflow}}}
    return QueuedPrompt(number, f"p{number}", {"1": {}}, extra, ["1"])


def ended(*events: str, outputs: Any = None, start: int = 1000, end: int = 3000) -> Outcome:
    messages = [("execution_start", {"timestamp": start})]
    messages += [(event, {"timestamp": end, "node_id": "1"}) for event in events]
    return Outcome(outputs or {}, {}, messages, "execution_success" in events)


@pytest.fixture
def queue() -> PromptQueue:
    """p0 completed, p1 failed, p2 cancelled, p3 running, p4 and p5 pending."""
    queue = PromptQueue(lambda: None)
    for number in range(6):
        queue.put(queued(number, workflow="odd" if number % 2 else "even"))
    for number, event in enumerate(
        ("execution_success", "execution_error", "execution_interrupted")
    ):
        queue.take(timeout_s=0)
        queue.finish(ended(event, end=3000 - number))
    queue.take(timeout_s=0)
    return queue


def listed(queue: PromptQueue, **query: str) -> list[str]:
    return [job["id"] for job in json.loads(JobQuery.read(query).answer(queue.jobs()))["jobs"]]


def test_the_newest_jobs_come_first_unless_asked_otherwise(queue):
    assert listed(queue) == ["p5", "p4", "p3", "p2", "p1", "p0"]
    assert listed(queue, sort_order="asc") == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert listed(queue, sort_by="execution_duration")[:3] == ["p0", "p1", "p2"]


def test_jobs_are_filtered_by_state_and_workflow(queue):
    for state, jobs in [
        ("completed", ["p0"]),
        ("failed", ["p1"]),
        ("cancelled", ["p2"]),
        ("in_progress", ["p3"]),
        ("pending", ["p5", "p4"]),
        ("failed, Completed", ["p1", "p0"]),
        (",", []),
    ]:
        assert listed(queue, status=state) == jobs
    assert listed(queue, workflow_id="odd") == ["p5", "p3", "p1"]


def test_a_page_says_where_it_is_and_whether_there_are_more(queue):
    answer = json.loads(JobQuery.read({"limit": "2", "offset": "1"}).answer(queue.jobs()))
    assert [job["id"] for job in answer["jobs"]] == ["p4", "p3"]
    assert answer["pagination"] == {"offset": 1, "limit": 2, "total": 6, "has_more": True}
    last = json.loads(JobQuery.read({"offset": "5", "limit": "1"}).answer(queue.jobs()))
    assert not last["pagination"]["has_more"]
    assert json.loads(JobQuery.read({"offset": "-5"}).answer([]))["pagination"] == {
        "offset": 0, "limit": None, "total": 0, "has_more": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"status": "done"}, "Invalid status value(s): done. Valid values: pending, in_progress, "),
        ({"sort_by": "name"}, "sort_by must be 'created_at' or 'execution_duration'"),
        ({"sort_order": "up"}, "sort_order must be 'asc' or 'desc'"),
        ({"limit": "0"}, "limit must be a positive integer"),
        ({"limit": "x"}, "limit must be an integer"),
        ({"offset": "x"}, "offset must be an integer"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_in_comfyuis_words(query, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        JobQuery.read(query)


def test_a_job_tells_its_times_its_error_and_its_workflow(queue):
    jobs = {job.id: json.loads(job.text) for job in queue.jobs()}
    assert jobs["p4"] == {
        "id": "p4", "status": "pending", "priority": 4, "create_time": 4, "outputs_count": 0,
        "previewable_outputs_count": 0, "workflow_id": "even",
    }  # fmt: skip
    assert jobs["p3"]["status"] == "in_progress"
    assert jobs["p0"]["execution_start_time"] == 1000
    assert jobs["p0"]["execution_end_time"] == 3000
    assert jobs["p1"]["execution_error"] == {"timestamp": 2999, "node_id": "1"}
    assert "execution_error" not in jobs["p2"]
    assert {job.id: job.duration for job in queue.jobs()} == {
        "p0": 2000, "p1": 1999, "p2": 1998, "p3": 0, "p4": 0, "p5": 0
    }  # fmt: skip


def finished(outputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what a list says of a job with these outputs, what it says itself)."""
    queue = PromptQueue(lambda: None)
    queue.put(queued(1))
    queue.take(timeout_s=0)
    queue.finish(ended("execution_success", outputs=outputs))
    (job,) = queue.jobs()
    entry = queue.finished("p1")
    assert entry is not None
    return json.loads(job.text), full_description(job, entry)


def test_a_job_by_itself_has_outputs_status_and_workflow_too():
    short, full = finished({"1": {"images": [SAVED, None], "animated": [True], "a": "b"}})
    assert full == short | {
        "outputs": {"1": {"images": [SAVED], "animated": [True], "a": "b"}},
        "execution_status": full["execution_status"],
        "workflow": {"prompt": {"1": {}}, "extra_data": queued(1).extra_data},
    }
    assert full["execution_status"]["status_str"] == "success"


@pytest.mark.parametrize(
    ("outputs", "counts", "preview"),
    [
        ({}, (0, 0), None),
        ({"7": {"images": [SAVED]}}, (1, 1), SAVED | {"nodeId": "7", "mediaType": "images"}),
        (
            {"6": {"images": [SHOWN]}, "7": {"images": [SAVED]}},
            (2, 2),
            SAVED | {"nodeId": "7", "mediaType": "images"},
        ),
        ({"6": {"latents": [SAVED | {"filename": "a.latent"}]}}, (1, 0), None),
        (
            {"1": {"text": ["words"]}},
            (0, 0),
            {"content": "words", "nodeId": "1", "mediaType": "text"},
        ),
        (
            {"1": {"text": ["w" * 2000]}},
            (0, 0),
            {"content": "w" * 1024, "truncated": True, "nodeId": "1", "mediaType": "text"},
        ),
        (
            {"1": {"files": [{"filename": "a.TXT", "type": "output"}]}, "2": {"images": [SHOWN]}},
            (2, 2),
            SHOWN | {"nodeId": "2", "mediaType": "images"},
        ),
        (
            {"1": {"result": ["x/a.GLB", "no file", 5]}},
            (1, 1),
            {"filename": "x/a.GLB", "type": "output", "subfolder": "", "mediaType": "3d",
             "nodeId": "1"},
        ),
        (
            {"1": {"gifs": [{"filename": "a.mp4", "format": "video/h264", "type": "temp"}]}},
            (1, 1),
            {"filename": "a.mp4", "format": "video/h264", "type": "temp", "nodeId": "1",
             "mediaType": "gifs"},
        ),
    ],
)  # fmt: skip
def test_the_preview_is_the_best_of_what_was_shown(outputs, counts, preview):
    job, _ = finished(outputs)
    assert (job["outputs_count"], job["previewable_outputs_count"]) == counts
    assert job.get("preview_output") == preview


def test_only_canonical_uuids_are_ids_of_jobs():
    good = "0b6f2a5e-7d0c-4f0e-9c62-0f9a4f1d2c3b"
    assert wrong_ids([good, good.upper(), "x", 5, ["a"]]) == [good.upper(), "x", "5", "['a']"]


def test_a_prompt_without_a_workflow_has_a_job_all_the_same():
    queue = PromptQueue(lambda: None)
    queue.put(QueuedPrompt(1, "p", {}, {"extra_pnginfo": [1]}, []))
    (job,) = queue.jobs()
    assert (job.state, job.created, job.workflow_id) == (JobState.PENDING, 0, None)

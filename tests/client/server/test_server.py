"""One server: refusals are readable, states are distinct, and the history decides."""

import time
import uuid

import pytest

from client.errors import ServerHung, ServerRefused, ServerUnreachable, TransferError
from client.server.access import Limits
from client.server.protocol import SUCCESS, JobDone, JobResult, Progress
from client.server.server import ComfyServer, describe_server
from client.workflow.changes.options import Options, patch
from comfy_nodes.plan import ClassEntry
from tests.client.helpers import stub_workflow


@pytest.fixture
def server(shared_server):
    with ComfyServer(shared_server.url) as server:
        yield server


@pytest.fixture
def job(workflow):
    """A graph of two images with this many steps, and a new prompt id."""

    def build(steps=2, **options):
        values = {"checkpoint": "tiny-digits", "width": 64, "height": 64, "images_per_class": 2}
        patched = patch(
            workflow, Options(classes=(ClassEntry("7"),), steps=steps, **(values | options))
        )
        return patched.for_batch(0, folder=f"server/{uuid.uuid4().hex}"), str(uuid.uuid4())

    return build


def test_a_refused_graph_names_node_and_value(server, job):
    graph, prompt_id = job()
    graph["1"]["inputs"]["ckpt_name"] = "nope"
    with pytest.raises(ServerRefused, match=r"node 1 \(CheckpointLoaderSimple\): .*nope") as caught:
        server.submit(graph, prompt_id=prompt_id)
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)
    assert server.find(prompt_id) is False


def test_a_graph_of_which_only_a_part_would_run_is_refused(server, job):
    graph, prompt_id = job()
    graph["30"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["12", 0]},
    }  # lacks filename_prefix
    with pytest.raises(ServerRefused, match="node 30"):
        server.submit(graph, prompt_id=prompt_id)
    finished = server.wait([prompt_id], timeout_s=30)
    assert finished.result is None or finished.result.outcome != SUCCESS


def test_a_job_is_found_while_it_waits_and_after_it_ended(server, job):
    graph, prompt_id = job(steps=30)
    assert server.find(prompt_id) is False
    server.submit(graph, prompt_id=prompt_id)
    assert server.find(prompt_id)
    events = []
    finished = server.wait([prompt_id], on_event=events.append, timeout_s=300)
    assert finished.prompt_id == prompt_id
    assert finished.result.outcome == SUCCESS
    assert isinstance(server.find(prompt_id), JobResult)
    assert Progress(prompt_id, "11", 30, 30) in events
    assert any(isinstance(event, JobDone) for event in events)
    image = finished.result.outputs["13"]["images"][0]
    assert server.view(image)[:4] == b"\x89PNG"


def test_waiting_ends_at_its_time_limit(server, job):
    graph, prompt_id = job(steps=3000)
    server.submit(graph, prompt_id=prompt_id)
    assert server.wait([prompt_id], timeout_s=0.3) is None
    while prompt_id not in server.queue().running:  # the engine may be loading torch still
        time.sleep(0.05)
    server.cancel([prompt_id])
    assert server.wait([prompt_id], timeout_s=300).result.outcome == "interrupted"


def test_cancelling_leaves_the_job_of_somebody_else_that_runs(server, job):
    (their_graph, theirs), (our_graph, ours) = job(steps=30), job()
    server.submit(their_graph, prompt_id=theirs)
    server.submit(our_graph, prompt_id=ours)
    server.cancel([ours])
    assert server.wait([ours], timeout_s=30).result is None
    assert server.wait([theirs], timeout_s=300).result.outcome == SUCCESS


def test_an_unknown_job_is_over_without_a_result(server):
    assert server.wait(["unknown"], timeout_s=5).result is None


def test_it_works_without_a_socket(proxy, job):
    with ComfyServer(proxy.url, poll_s=0.1) as server:
        graph, prompt_id = job()
        server.submit(graph, prompt_id=prompt_id)
        assert server.wait([prompt_id], timeout_s=30).result.outcome == SUCCESS


def test_a_job_that_does_not_move_is_lost(shared_server, proxy, job):
    graph, prompt_id = job(steps=3000)
    with ComfyServer(proxy.url, poll_s=0.1, stall_s=0.5) as server:
        server.submit(graph, prompt_id=prompt_id)
        with pytest.raises(ServerUnreachable, match="has not moved"):
            server.wait([prompt_id], timeout_s=30)
        server.cancel([prompt_id])


def test_a_job_that_runs_for_too_long_is_cancelled_although_it_moves(stub_servers):
    graph = stub_workflow(seed=4001, per_class=1, seconds=4.0).for_batch(0, folder="long")
    prompt_id = str(uuid.uuid4())
    limits = Limits(job_s=0.6)
    with ComfyServer(stub_servers[2].url, limits=limits, poll_s=0.1) as server:
        server.submit(graph, prompt_id=prompt_id)
        with pytest.raises(ServerHung, match=r"one job for more than 0\.6 s.*--job-timeout"):
            server.wait([prompt_id], timeout_s=10)
    with ComfyServer(stub_servers[2].url, poll_s=0.1) as server:
        assert server.wait([prompt_id], timeout_s=10).result.outcome == "interrupted"


def test_jobs_that_others_queue_behind_a_hung_one_are_no_movement(stub_servers):
    url, ids = stub_servers[2].url, [str(uuid.uuid4()) for _ in range(12)]
    graph = stub_workflow(seed=4000, per_class=1, seconds=40.0).for_batch(0, folder="hung")
    with ComfyServer(url, poll_s=0.1, stall_s=0.8) as server, ComfyServer(url) as other:
        server.submit(graph, prompt_id=ids[0])

        def add_another():
            if len(other.queue().pending) < 10:
                other.submit(graph, prompt_id=ids[1 + len(other.queue().pending)])
            return False

        with pytest.raises(ServerHung, match="has not moved for"):
            server.wait(ids[:1], timeout_s=8, until=add_another)
        other.cancel(ids)


@pytest.mark.parametrize(
    "location", [None, [], {"filename": 3}, {"filename": "none.png", "type": "output"}]
)
def test_an_image_that_is_not_there_is_a_transfer_error(server, location):
    with pytest.raises(TransferError):
        server.view(location)


def test_a_path_out_of_the_output_folder_is_refused_by_the_server(server):
    with pytest.raises(TransferError):
        server.view({"filename": "../log-1.txt", "subfolder": "", "type": "output"})


def test_a_server_that_knows_no_older_names_of_classes_has_none(server):
    """As ComfyUI 0.8.0 and the embedded engine, which lack the route."""
    assert server.node_replacements() == {}


def test_a_description_holds_versions_and_no_paths():
    stats = {
        "system": {
            "comfyui_version": "0.8.0",
            "argv": ["main.py", "--base-directory", "/home/me"],
            "os": 3,
        },
        "devices": [{"name": "cuda:0"}, "odd"],
    }
    told = describe_server(stats, {"A": {}})
    assert told == {"comfyui_version": "0.8.0", "devices": ["cuda:0"], "node_classes": 1}
    assert describe_server({"system": [], "devices": None}, {}) == {
        "devices": [],
        "node_classes": 0,
    }

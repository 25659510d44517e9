"""Many servers, one folder: whatever fails, every planned image exists once and is true.

Covers: client.run.dispatch.dispatcher, client.run.dispatch.run_state, client.run.dispatch.worker.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace

import pytest

from client.errors import ClientError, RunIncomplete, ServerError, ServerUnreachable, WorkflowError
from client.run import events
from client.run.dispatch.dispatcher import Dispatcher
from client.run.runner import run_plan
from client.server.access import Access, Limits
from client.server.fleet import Patience, ServerSpec
from client.server.protocol import SUCCESS
from client.server.server import ComfyServer
from tests.client.fault_proxy import FaultProxy, Schedule
from tests.client.helpers import assert_exact, read_records, stub_workflow

QUICK = Patience(answer_s=5.0, stall_s=4.0, probe_s=0.05, probe_most_s=0.3, give_up_s=10.0)
HASTY = Patience(answer_s=0.3, stall_s=1.5, probe_s=0.02, probe_most_s=0.2, give_up_s=3.0)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def proxies(stub_servers):
    """A fault proxy in front of each of two stub servers."""
    proxies = [FaultProxy(server.url, web_socket=True, hang_s=0.5) for server in stub_servers[:2]]
    yield proxies
    for proxy in proxies:
        proxy.thaw()
        proxy.down()


def kinds(seen, kind):
    return [event for event in seen if isinstance(event, kind)]


def run_under(schedule, workflow, urls, out):
    """Runs under faults, which begin when the run has, and may end it before it is complete.

    On a busy machine a hasty client may also find no server to begin with.
    """

    def begin(event):
        if isinstance(event, events.RunStarted):
            schedule.begin()

    try:
        with contextlib.suppress(RunIncomplete, ServerError):
            run_plan(workflow, urls, out, patience=HASTY, on_event=begin)
    finally:
        schedule.end()


def check_schedule(seed, proxies, out):
    workflow = stub_workflow(seed=seed, seconds=0.02 if seed % 3 else 0.1, batch_size=1 + seed % 4)
    urls = [proxy.url for proxy in proxies[: 1 + seed % 2]]
    run_under(Schedule(seed, proxies), workflow, urls, out)
    run_plan(workflow, urls, out)
    assert_exact(out, workflow)


@pytest.mark.parametrize("seed", range(6))
def test_under_random_faults_the_folder_is_exactly_the_plan(seed, proxies, tmp_path):
    check_schedule(seed, proxies, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_under_many_random_faults_the_folder_is_exactly_the_plan(seed, proxies, tmp_path):
    check_schedule(seed, proxies, tmp_path / "out")


def test_a_server_that_is_killed_in_the_middle_loses_nothing(start_stub, stub_servers, tmp_path):
    doomed, seen = start_stub(), []

    def kill(event):
        seen.append(event)
        if len(kinds(seen, events.ImageSaved)) == 4 and doomed.process.poll() is None:
            doomed.kill()

    workflow = stub_workflow(seed=1000, per_class=12, seconds=0.05)
    summary = run_plan(
        workflow,
        [stub_servers[0].url, ServerSpec(doomed.url, name="doomed")],
        tmp_path / "out",
        on_event=kill,
        patience=QUICK,
    )
    assert_exact(tmp_path / "out", workflow)
    assert summary.made == 36
    assert [event.state for event in kinds(seen, events.ServerDown)] == ["down"]
    moved = [event.batch_index for event in kinds(seen, events.JobMoved)]
    assert 1 <= len(moved) <= 3
    assert [figures.state for figures in summary.servers if figures.name == "doomed"] == ["down"]


def test_a_server_that_comes_back_is_used_again(proxies, tmp_path):
    seen = []

    def fail_for_a_while(event):
        seen.append(event)
        if isinstance(event, events.ServerDown):
            proxies[1].up()
        elif isinstance(event, events.ImageSaved) and len(kinds(seen, events.ImageSaved)) == 3:
            proxies[1].down()

    workflow = stub_workflow(seed=1001, per_class=16, seconds=0.06)
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    run_plan(workflow, servers, tmp_path / "out", on_event=fail_for_a_while, patience=QUICK)
    assert_exact(tmp_path / "out", workflow)
    of_b = [event for event in seen if getattr(event, "server", "") == "b"]
    states = [event for event in of_b if isinstance(event, (events.ServerUp, events.ServerDown))]
    assert [type(event) for event in states] == [
        events.ServerUp,
        events.ServerDown,
        events.ServerUp,
    ]
    assert kinds(of_b[of_b.index(states[2]) :], events.ImageSaved)


def test_the_jobs_of_a_server_that_does_not_answer_go_to_another(proxies, tmp_path):
    def freeze(event):
        if isinstance(event, events.JobPosted) and event.server == "b":
            proxies[1].freeze()

    workflow = stub_workflow(seed=1002, per_class=4)
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    summary = run_plan(
        workflow, servers, tmp_path / "out", on_event=freeze, patience=replace(QUICK, answer_s=0.5)
    )
    assert_exact(tmp_path / "out", workflow)
    assert {figures.name: figures.images for figures in summary.servers} == {"a": 12, "b": 0}


@pytest.mark.parametrize("request_", [("GET", "/queue"), ("POST", "/prompt"), ("GET", "/view")])
def test_the_jobs_of_a_server_that_drips_go_to_another(proxies, tmp_path, request_):
    """Its thread waits for an answer that comes byte by byte, while another server is idle."""
    seen, drips = [], threading.Event()

    def drip(event):
        seen.append(event)
        if isinstance(event, events.JobPosted) and event.server == "b":
            drips.set()

    proxies[1].hang_s = 15.0
    proxies[1].fault = lambda method, path, number: (
        "drip" if drips.is_set() and (method, path) == request_ else None
    )
    workflow = stub_workflow(seed=1015, per_class=8)
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    begun = time.monotonic()
    run_plan(
        workflow,
        servers,
        tmp_path / "out",
        on_event=drip,
        patience=replace(QUICK, silent_s=0.5),
    )
    assert time.monotonic() - begun < 10
    assert_exact(tmp_path / "out", workflow)
    told = [event for event in kinds(seen, events.ServerDown) if event.server == "b"]
    assert told[0].state == "hung"
    assert "has kept a request waiting for" in told[0].reason
    assert kinds(seen, events.JobMoved)


def test_a_thread_that_is_stuck_says_nothing_once_the_run_is_over(proxies, tmp_path, caplog):
    drips = threading.Event()

    def drip(event):
        if isinstance(event, events.JobPosted) and event.server == "b":
            drips.set()

    proxies[1].hang_s = 15.0
    proxies[1].fault = lambda method, path, number: (
        "drip" if drips.is_set() and path == "/queue" else None
    )
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    patience = replace(QUICK, silent_s=0.3)
    workflow = stub_workflow(seed=1019, per_class=4)
    run_plan(workflow, servers, tmp_path / "out", on_event=drip, patience=patience)
    stuck = [each for each in threading.enumerate() if each.name == "server b"]
    caplog.clear()
    proxies[1].down()
    for each in stuck:
        each.join(5.0)
    assert stuck
    assert not any(each.is_alive() for each in stuck)
    assert caplog.text == ""


def test_a_job_that_takes_longer_than_it_may_goes_to_another_server(
    start_stub, stub_servers, tmp_path
):
    """Although it moves: its server reports one step after the other."""
    slow, seen = start_stub(STUB_SLOWER="60"), []
    workflow = stub_workflow(seed=1018, per_class=2, batch_size=2, seconds=0.05)
    limits = Limits(job_s=1.0)
    servers = [
        ServerSpec(stub_servers[0].url, name="good"),
        ServerSpec(slow.url, name="slow", access=Access(limits=limits)),
    ]
    run_plan(workflow, servers, tmp_path / "out", on_event=seen.append, patience=QUICK)
    assert_exact(tmp_path / "out", workflow)
    told = [event for event in kinds(seen, events.ServerDown) if event.server == "slow"]
    assert "has run one job for more than 1 s" in told[0].reason


def test_a_server_that_drips_for_a_while_joins_in_again(proxies, tmp_path):
    seen, drips = [], threading.Event()

    def follow(event):
        seen.append(event)
        if isinstance(event, events.JobPosted) and event.server == "b" and not drips.is_set():
            drips.set()

    proxies[1].hang_s = 1.0
    left = iter(["drip"])
    proxies[1].fault = lambda method, path, number: (
        next(left, None) if drips.is_set() and path == "/queue" else None
    )
    workflow = stub_workflow(seed=1016, per_class=24, seconds=0.15)
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    run_plan(
        workflow,
        servers,
        tmp_path / "out",
        on_event=follow,
        patience=replace(QUICK, silent_s=0.3),
    )
    assert_exact(tmp_path / "out", workflow)
    of_b = [event for event in seen if getattr(event, "server", "") == "b"]
    assert "hung" in [event.state for event in kinds(of_b, events.ServerDown)]
    last_up = kinds(of_b, events.ServerUp)[-1]
    assert kinds(of_b[of_b.index(last_up) :], events.ImageSaved)


def test_a_server_without_another_keeps_its_jobs_however_long_it_is_silent(proxies, tmp_path):
    seen = []
    proxies[0].fault = lambda method, path, number: "delay" if path == "/queue" else None
    workflow = stub_workflow(seed=1017, per_class=2)
    run_plan(
        workflow,
        proxies[0].url,
        tmp_path / "out",
        on_event=seen.append,
        patience=replace(QUICK, silent_s=0.02),
    )
    assert_exact(tmp_path / "out", workflow)
    assert kinds(seen, events.ServerDown) == []


def test_what_a_hung_server_delivers_late_is_neither_doubled_nor_lost(
    start_stub, stub_servers, tmp_path
):
    """It shows the job as running, but nothing moves; its late images count only if missing."""
    slow, seen = start_stub(STUB_SLOWER="12"), []
    workflow = stub_workflow(seed=1003, per_class=10, seconds=0.1, batch_size=2)
    patience = Patience(answer_s=2.0, stall_s=0.25, probe_s=0.05, probe_most_s=0.1)
    servers = [ServerSpec(stub_servers[0].url, name="good"), ServerSpec(slow.url, name="slow")]
    run_plan(workflow, servers, tmp_path / "out", on_event=seen.append, patience=patience)
    assert_exact(tmp_path / "out", workflow)
    assert "hung" in {event.state for event in kinds(seen, events.ServerDown)}
    saved = [event.index for event in kinds(seen, events.ImageSaved)]
    assert sorted(saved) == list(range(30))
    assert {event.server for event in kinds(seen, events.ServerUp)} == {"good", "slow"}


def test_two_servers_that_bring_the_same_image_at_once_make_one(proxies, tmp_path):
    """Lost with a finished job, back while another server makes it again, overtaken in between."""
    saved, back = threading.Event(), []

    def fault_of_a(method, path, number):
        if path != "/view" or saved.is_set():
            return None
        if not back:
            return "lose request"
        saved.wait(5)  # the download goes on when the other server's image is in the folder
        return None

    def follow(event):
        if isinstance(event, events.ServerDown) and event.server == "a":
            proxies[1].up()
        elif isinstance(event, events.JobPosted) and event.server == "b":
            back.append(event)
        elif isinstance(event, events.ImageSaved):
            saved.set()

    workflow = stub_workflow(seed=1014, per_class=1, seconds=1.0)
    proxies[0].fault = fault_of_a
    proxies[1].down()
    servers = [ServerSpec(proxy.url, name=name) for proxy, name in zip(proxies, "ab", strict=True)]
    patience = Patience(answer_s=10.0, stall_s=20.0, probe_s=0.05, probe_most_s=0.1)
    summary = run_plan(workflow, servers, tmp_path / "out", on_event=follow, patience=patience)
    assert_exact(tmp_path / "out", workflow)
    assert back
    assert proxies[0].count("GET", "/view") >= 1  # it did bring them
    assert sum(figures.images for figures in summary.servers) == 3


def test_jobs_of_other_people_are_neither_cancelled_nor_overtaken(stub_servers, tmp_path):
    """Theirs wait in the middle of ours on a shared server; then our run is interrupted."""
    theirs = [str(uuid.uuid4()) for _ in range(3)]
    other = stub_workflow(seed=2000, per_class=1).for_batch(0, folder="theirs")

    def interrupt(progress):
        if progress.made == 3:
            with ComfyServer(stub_servers[0].url) as server:
                for each in theirs:
                    server.submit(other, prompt_id=each)
            raise KeyboardInterrupt

    workflow = stub_workflow(seed=1004, per_class=6, seconds=0.1)
    urls = [server.url for server in stub_servers[:2]]
    with pytest.raises(KeyboardInterrupt):
        run_plan(workflow, urls, tmp_path / "out", on_progress=interrupt, patience=QUICK)
    with ComfyServer(stub_servers[0].url) as server:
        assert all(server.wait([each], timeout_s=20).result.outcome == SUCCESS for each in theirs)
        assert not server.queue().pending
    with ComfyServer(stub_servers[1].url) as server:
        assert not server.queue().pending
    assert 3 <= len(read_records(tmp_path / "out")) < 12
    run_plan(workflow, urls, tmp_path / "out", patience=QUICK)
    assert_exact(tmp_path / "out", workflow)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_second_ctrl_c_quits_at_once(proxies, start_client, tmp_path):
    """The first waits for servers to take jobs back; a silent one must not hold the user up."""
    path, out = tmp_path / "stub.json", tmp_path / "out"
    path.write_text(
        json.dumps(stub_workflow(seed=1013, per_class=50, seconds=0.1).graph), encoding="utf-8"
    )
    client = start_client("run", path, "--server", proxies[0].url, "--out", out)
    while not list(out.glob("*/*.png")):
        assert client.poll() is None, client.stderr.read()
        time.sleep(0.05)
    proxies[0].freeze()
    client.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(1.0)
    client.send_signal(signal.SIGINT)
    assert client.wait(5.0) == 130
    told = client.stderr.read()
    assert "press Ctrl-C again" in told
    assert "Traceback" not in told


def test_an_image_that_cannot_be_made_fails_with_its_reason(stub_servers, tmp_path, caplog):
    workflow = stub_workflow(seed=1005, names=("bat", "poison"), per_class=3, batch_size=1)
    seen = []
    with pytest.raises(RunIncomplete, match=r"3 images could not be made .*3 of 6 images"):
        run_plan(
            workflow,
            [s.url for s in stub_servers],
            tmp_path / "out",
            on_event=seen.append,
            patience=QUICK,
        )
    failed = kinds(seen, events.ImageFailed)
    assert {(event.index, event.label) for event in failed} == {
        (1, "poison"),
        (3, "poison"),
        (5, "poison"),
    }
    assert all("ValueError: poison" in event.reason for event in failed)
    assert [record["label"] for record in read_records(tmp_path / "out")] == ["bat"] * 3
    assert seen[-1].outcome == events.INCOMPLETE
    tried = Counter(event.batch_index for event in kinds(seen, events.JobPosted))
    assert {tried[number] for number in (1, 3, 5)} == {3}


def test_a_server_on_which_everything_fails_costs_no_image(start_stub, stub_servers, tmp_path):
    broken, seen = start_stub(STUB_BROKEN="1"), []
    workflow = stub_workflow(seed=1006, per_class=6, batch_size=1, seconds=0.02)
    servers = [ServerSpec(broken.url, name="broken"), ServerSpec(stub_servers[0].url, name="good")]
    summary = run_plan(workflow, servers, tmp_path / "out", on_event=seen.append, patience=QUICK)
    assert_exact(tmp_path / "out", workflow)
    assert {figures.name: figures.images for figures in summary.servers} == {
        "broken": 0,
        "good": 18,
    }
    assert "failing" in {event.state for event in kinds(seen, events.ServerDown)}


class Restarted:
    """A source that starts its stub server again whenever it is lost."""

    def __init__(self, server):
        self.server = server

    def open(self):
        return ComfyServer(self.server.url, pauses=lambda: iter((0.05,)))

    def replace(self, error):
        if self.server.process.poll() is not None:
            self.server.start()
        return self.open()


def test_an_image_that_kills_its_server_fails(start_stub, tmp_path):
    workflow = stub_workflow(
        seed=1007, names=("bat", "deadly"), per_class=1, batch_size=1, seconds=0.1
    )
    server = start_stub()
    with pytest.raises(RunIncomplete, match="1 images could not be made"):
        run_plan(workflow, Restarted(server), tmp_path / "out", tries=1, patience=QUICK)
    assert [record["label"] for record in read_records(tmp_path / "out")] == ["bat"]
    assert server.starts == 2


def test_a_faster_server_makes_more(start_stub, stub_servers, tmp_path):
    slow = start_stub(STUB_SLOWER="12")
    workflow = stub_workflow(seed=1008, per_class=6, batch_size=1, seconds=0.05)
    servers = [ServerSpec(stub_servers[0].url, name="fast"), ServerSpec(slow.url, name="slow")]
    summary = run_plan(workflow, servers, tmp_path / "out", patience=QUICK)
    images = {figures.name: figures.images for figures in summary.servers}
    assert images["fast"] > 2 * images["slow"] > 0


def test_a_server_has_two_jobs_at_a_time_or_as_many_as_its_weight_says(stub_servers, tmp_path):
    on, most = Counter(), Counter()

    def count(event):
        if isinstance(event, (events.JobPosted, events.JobFinished)):
            on[event.server] += 1 if isinstance(event, events.JobPosted) else -1
            most[event.server] = max(most[event.server], on[event.server])

    workflow = stub_workflow(seed=1009, per_class=8, batch_size=1, seconds=0.02)
    servers = [
        ServerSpec(stub_servers[0].url, name="one"),
        ServerSpec(stub_servers[1].url, name="two", weight=2),
    ]
    run_plan(workflow, servers, tmp_path / "out", on_event=count, patience=QUICK)
    assert most == {
        "one": 3,
        "two": 5,
    }  # the next is posted before the one that is over is collected


def test_what_a_killed_client_left_on_a_server_is_collected_from_there(stub_servers, tmp_path):
    proxies = [FaultProxy(server.url) for server in stub_servers[:2]]
    workflow = stub_workflow(seed=1010, per_class=8, seconds=0.1)

    def die(progress):
        if progress.made == 3:
            for proxy in proxies:
                proxy.fault = lambda method, path, number: (
                    "lose request" if (method, path) == ("POST", "/queue") else None
                )
            raise SystemExit  # with its jobs left on the servers, as kill -9 leaves them

    with pytest.raises(SystemExit):
        run_plan(
            workflow,
            [proxy.url for proxy in proxies],
            tmp_path / "out",
            on_progress=die,
            patience=QUICK,
        )
    seen = []
    run_plan(
        workflow,
        [proxy.url for proxy in reversed(proxies)],
        tmp_path / "out",
        on_event=seen.append,
        patience=QUICK,
    )
    assert_exact(tmp_path / "out", workflow)
    assert sum(event.found for event in kinds(seen, events.JobPosted)) >= 3
    posted = Counter(
        tuple(graph["3"]["inputs"][name] for name in ("batch_index", "only"))
        for p in proxies
        for graph in p.graphs
    )
    assert set(posted.values()) == {1}
    for proxy in proxies:
        proxy.down()


def test_a_server_that_cannot_do_the_work_is_left_out(
    stub_servers, shared_server, tmp_path, caplog
):
    workflow = stub_workflow(seed=1011, per_class=2)
    with pytest.raises(WorkflowError, match="lacks the nodes StubImages"):
        run_plan(workflow, [shared_server.url, NOBODY], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    summary = run_plan(
        workflow, [shared_server.url, NOBODY, stub_servers[0].url], tmp_path / "out", patience=QUICK
    )
    assert summary.made == 6
    assert "lacks the nodes StubImages" in caplog.text
    assert [figures.state for figures in summary.servers] == ["out", "down", "up"]


def test_no_server_at_all_writes_nothing(tmp_path):
    with pytest.raises(ServerUnreachable, match="no server answers"):
        run_plan(stub_workflow(), [NOBODY, "http://127.0.0.1:1"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_events_tell_the_whole_run_and_are_plain_json(stub_servers, tmp_path):
    seen = []
    run_plan(
        stub_workflow(seed=1012, per_class=2),
        stub_servers[0].url,
        tmp_path / "out",
        on_event=seen.append,
    )
    told = [json.loads(json.dumps(events.as_dict(event))) for event in seen]
    assert [each["event"] for each in told if each["event"] != "image_saved"] == [
        "run_started", "server_up", "job_posted", "job_posted", "job_finished", "job_finished",
        "run_ended",
    ]  # fmt: skip
    assert told[0]["total"] == 6
    assert told[-1] | {"at": 0, "seconds": 0} == {
        "event": "run_ended", "at": 0, "outcome": "complete", "done": 6, "made": 6, "total": 6,
        "failed": 0,
        "seconds": 0, "reason": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ([], "no server"),
        ([NOBODY, NOBODY], "given twice"),
        ("ftp://x", "not a server address"),
    ],
)
def test_servers_that_make_no_sense_are_refused(servers, message):
    with pytest.raises((ClientError, ServerUnreachable), match=message):
        Dispatcher(servers)

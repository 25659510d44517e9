"""A Ray cluster makes the images, and lost actors lose nothing. Most tests have no Ray: a stand-in
with the calls that we use runs everything in this process, in order.

Covers: client.run.cluster.ray_cluster, client.run.cluster.crew, client.run.cluster.worker.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest

from client.__main__ import main
from client.commands.run import generate
from client.errors import ClientError, JobFailed, RunIncomplete, ServerUnreachable
from client.run import events
from client.run.cancel import cancel
from client.run.cluster import crew
from client.run.cluster import ray_cluster as module
from client.run.cluster.ray_cluster import RayCluster, reason_of
from client.run.cluster.worker import EngineWorker
from client.run.runner import run_plan
from client.run.status import StateKeeper, read_state
from client.server.server import ComfyServer
from comfy_nodes.labelset import set_aside
from comfy_nodes.labelset.quality.verdicts import Verdict, quality_folder, write_verdicts
from tests.client.helpers import assert_exact, read_records, stub_workflow
from tests.ray_head import ray_head


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class Call:
    """A call that was posted; it runs when somebody waits for it."""

    def __init__(self, actor, function):
        self.actor, self.life, self._function, self._outcome = actor, actor.life, function, None

    def result(self):
        if self._outcome is None:
            self._outcome = self._run()
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def _run(self):
        if self.actor.dead or self.life != self.actor.life:
            return None, RayActorError("Ray says:\n\x1b[36mthe actor died\x1b[39m\n")
        try:
            return self._function(), None
        except RayError as error:
            return None, error
        except Exception as error:
            return None, RayError(f"task failed\n{type(error).__name__}: {error}")


class Actor:
    """Has a life; `die` ends it, with everything that was posted to it, and begins another."""

    def __init__(self, ray, make):
        self.ray, self._make, self.life, self.dead = ray, make, 0, False
        self._worker = None

    def die(self):
        self.life += 1
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def __getattr__(self, name):
        def post(*arguments):
            call = Call(self, lambda: self._work(name, *arguments))
            return call

        plain = SimpleNamespace(remote=post)
        plain.options = lambda **_: plain
        return plain

    def _work(self, name, *arguments):
        self.ray.before(self, name)
        if self._worker is None:
            self._worker = self._make()
        return getattr(self._worker, name)(*arguments)


class StandIn:
    """The part of Ray that is used. `nodes_` are the machines' resources."""

    exceptions = SimpleNamespace(
        RayError=RayError, RayActorError=RayActorError, ActorUnavailableError=ActorUnavailableError
    )

    def __init__(self, url, *, machines=({"CPU": 8.0},), before=lambda actor, name: None):
        self.url, self.machines, self.before = url, list(machines), before
        self.actors, self.reserved, self.shut, self.killed = [], [], 0, 0

    def nodes(self):
        return [{"Alive": True, "Resources": each} for each in self.machines]

    def remote(self, worker):
        def options(**resources):
            def start(*_):
                self.reserved.append(resources)
                self.actors.append(Actor(self, lambda: stub_worker(self.url)))
                return self.actors[-1]

            return SimpleNamespace(remote=start)

        assert worker is EngineWorker
        return SimpleNamespace(options=options)

    def put(self, value):
        return value

    def wait(self, calls, *, num_returns, timeout):
        for call in calls:
            if isinstance(call, Call):
                try:
                    call.result()
                except RayError:
                    continue
        return list(calls), []

    def get(self, call):
        return call.result()

    def kill(self, actor):
        self.killed += 1

    def shutdown(self):
        self.shut += 1


def stub_worker(url):
    """A real EngineWorker, whose engine is a running stub server."""
    worker = EngineWorker.__new__(EngineWorker)
    server = ComfyServer(url)
    worker._engine = SimpleNamespace(
        name="stub",
        open=lambda: server,
        replace=lambda error: server,
        renew=lambda: None,
        clear_output=lambda: None,
        close=server.close,
    )
    return worker


@pytest.fixture
def url(stub_servers):
    return stub_servers[0].url


@pytest.fixture
def connect(monkeypatch):
    def use(ray):
        monkeypatch.setattr(module, "connect", lambda address: ray)
        monkeypatch.setattr(module, "_LOOK_S", 0.0)
        monkeypatch.setattr(crew, "_ROWS", 8)
        return ray

    return use


def test_the_folder_is_that_of_a_run_on_servers(url, connect, tmp_path):
    ray, seen = connect(StandIn(url)), []
    workflow = stub_workflow(per_class=16, batch_size=4, seconds=0.0)
    with RayCluster(cores=4) as cluster:
        found = run_plan(workflow, cluster, tmp_path / "ray", on_event=seen.append)
        assert (found.total, found.made, found.existing) == (48, 48, 0)
        again = run_plan(workflow, cluster, tmp_path / "ray")
        assert (again.made, again.existing) == (0, 48)
    assert_exact(tmp_path / "ray", workflow)
    run_plan(workflow, url, tmp_path / "servers")
    for one, other in zip(
        read_records(tmp_path / "ray"), read_records(tmp_path / "servers"), strict=True
    ):
        # The files differ in the workflow inside, which names the run.
        assert one | {"sha256": ""} == other | {"sha256": ""}
    assert {each.server for each in seen if isinstance(each, events.ImageSaved)} == {
        "ray-0",
        "ray-1",
    }
    assert ray.reserved == [{"max_restarts": -1, "num_gpus": 0, "num_cpus": 4}] * 2
    assert (ray.shut, ray.killed) == (1, 2)


def test_only_a_range_is_made(url, connect, tmp_path):
    connect(StandIn(url))
    workflow = stub_workflow(per_class=10, batch_size=4, seconds=0.0)
    with RayCluster() as cluster, StateKeeper(tmp_path / "out") as keeper:
        run_plan(
            workflow, cluster, tmp_path / "out", rows=range(5, 21),
            on_event=keeper.take, on_progress=keeper.see,
        )  # fmt: skip
    state = read_state(tmp_path / "out")
    assert [(each.name, each.url[:6], each.images) for each in state.servers] == [
        ("ray-0", "ray://", 8), ("ray-1", "ray://", 8),
    ]  # fmt: skip
    nothing = cancel(tmp_path / "out")  # no server holds a job of it
    assert (nothing.stopped, nothing.jobs, nothing.unreached) == (False, {}, {})
    assert [each["index"] for each in read_records(tmp_path / "out")] == list(range(5, 21))


def test_a_rejected_row_is_made_again_with_another_seed(url, connect, tmp_path):
    connect(StandIn(url))
    workflow = stub_workflow(per_class=4, batch_size=3, seconds=0.0)
    with RayCluster() as cluster:
        run_plan(workflow, cluster, tmp_path / "out")
        bad = [each for each in read_records(tmp_path / "out") if each["index"] in (2, 7)]
        set_aside(
            tmp_path / "out",
            [Verdict(each["sha256"], each["file_name"], each["label"], "bad") for each in bad],
            scorer="scripted.csv",
        )
        found = run_plan(workflow, cluster, tmp_path / "out")
    assert (found.made, found.existing) == (2, 10)
    attempts = {each["index"]: each.get("attempt", 0) for each in read_records(tmp_path / "out")}
    assert attempts == {index: int(index in (2, 7)) for index in range(12)}


def test_regenerate_makes_what_a_check_rejects_on_a_cluster(url, connect, tmp_path, capsys):
    connect(StandIn(url))
    root = tmp_path / "out"
    run_plan(stub_workflow(per_class=4, batch_size=3), url, root)
    before = read_records(root)
    write_verdicts(
        quality_folder(root) / "scripted.csv",
        [
            Verdict(
                each["sha256"], each["file_name"], each["label"], "bad" * (each["index"] in (2, 7))
            )
            for each in before
        ],
    )
    capsys.readouterr()
    assert main(["regenerate", str(root), "--executor", "ray", "--cores-per-worker", "2"]) == 0
    assert capsys.readouterr().out.startswith("12 images, 2 of them new at ")
    changed = [
        old["index"]
        for old, new in zip(before, read_records(root), strict=True)
        if old["sha256"] != new["sha256"]
    ]
    assert changed == [2, 7]


def test_nothing_is_moved_if_no_worker_comes_up(url, connect, tmp_path, caplog):
    run_plan(stub_workflow(per_class=1), url, tmp_path / "out")
    before = read_records(tmp_path / "out")
    write_verdicts(
        quality_folder(tmp_path / "out") / "scripted.csv",
        [Verdict(each["sha256"], each["file_name"], each["label"], "bad") for each in before],
    )

    def fail(actor, name):
        raise RayActorError("The actor died")

    connect(StandIn(url, before=fail))
    assert main(["regenerate", str(tmp_path / "out"), "--executor", "ray"]) == 1
    assert "no worker of the Ray cluster can work: The actor died" in caplog.text
    assert read_records(tmp_path / "out") == before


def test_what_ray_prints_is_not_among_the_events(url, connect, tmp_path, capsys):
    connect(StandIn(url, before=lambda actor, name: print("(raylet) a note")))
    args = SimpleNamespace(json_events=True, executor="ray")
    with RayCluster() as cluster:
        cluster.introduction()
        capsys.readouterr()
        generate(stub_workflow(per_class=1), cluster, tmp_path / "out", args)
        said = capsys.readouterr()
    told = [json.loads(line)["event"] for line in said.out.splitlines()]
    assert told.count("image_saved") == 3
    assert "(raylet) a note" in said.err


def test_every_row_is_made_once_although_actors_die(url, connect, tmp_path):
    deaths, seen = [], []

    def die_now_and_then(actor, name):
        if name == "make" and len(deaths) < 5 and len(seen) > 16 * len(deaths):
            deaths.append(actor)
            actor.die()
            raise RayActorError("The actor died unexpectedly")

    connect(StandIn(url, before=die_now_and_then))
    workflow = stub_workflow(per_class=32, batch_size=4, seconds=0.0)
    with RayCluster(cores=4) as cluster:
        run_plan(workflow, cluster, tmp_path / "out", on_event=seen.append)
    assert len(deaths) == 5
    assert_exact(tmp_path / "out", workflow)
    downs = [each for each in seen if isinstance(each, events.ServerDown)]
    assert len(downs) == 5
    assert [each for each in seen if isinstance(each, events.JobMoved)]
    saved = [each.index for each in seen if isinstance(each, events.ImageSaved)]
    assert sorted(saved) == list(range(96))


def test_a_row_that_always_kills_its_actor_is_given_up(url, connect, tmp_path):
    def die(actor, name):
        if name == "make":
            actor.die()
            raise RayActorError("The actor died unexpectedly")

    connect(StandIn(url, before=die))
    workflow = stub_workflow(per_class=1, batch_size=3, seconds=0.0)
    with (
        RayCluster() as cluster,
        pytest.raises((RunIncomplete, JobFailed), match="could not be made"),
    ):
        run_plan(workflow, cluster, tmp_path / "out")
    run_plan(workflow, url, tmp_path / "out")  # the same folder is completed by anybody
    assert_exact(tmp_path / "out", workflow)


def test_an_actor_that_cannot_start_is_named(url, connect, tmp_path):
    def fail(actor, name):
        actor.dead = True
        raise RayActorError("The actor died\nModuleNotFoundError: No module named 'client'\n\n")

    connect(StandIn(url, before=fail))
    workflow = stub_workflow(per_class=1)
    with (
        RayCluster() as cluster,
        pytest.raises(ServerUnreachable, match=r"No module named 'client'$"),
    ):
        run_plan(workflow, cluster, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_actor_that_ray_is_still_starting_again_is_asked_later(
    url, connect, monkeypatch, tmp_path
):
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.02)
    asked, made, seen = [], [], []

    def die_once_and_come_back_slowly(actor, name):
        if name == "make":
            made.append(name)
            if len(made) == 2:
                actor.die()
                raise RayActorError("The actor died unexpectedly")
        elif len(made) >= 2:
            asked.append(name)
            if len(asked) < 4:
                raise ActorUnavailableError("The actor is restarting")

    connect(StandIn(url, machines=[{"CPU": 4.0}], before=die_once_and_come_back_slowly))
    workflow = stub_workflow(per_class=8, batch_size=4, seconds=0.0)
    with RayCluster() as cluster:
        run_plan(workflow, cluster, tmp_path / "out", on_event=seen.append)
    assert_exact(tmp_path / "out", workflow)
    assert asked[:4] == ["introduce"] * 4
    states = [e for e in seen if isinstance(e, (events.ServerUp, events.ServerDown))]
    assert [type(each).__name__ for each in states] == ["ServerUp", "ServerDown", "ServerUp"]


def test_machines_that_join_late_get_actors(url, connect, tmp_path):
    ray = connect(StandIn(url, machines=[{"CPU": 2.0}]))
    seen = []

    def watch(event):
        seen.append(event)
        if len(seen) == 20:
            ray.machines.append({"CPU": 2.0})

    workflow = stub_workflow(per_class=32, batch_size=4, seconds=0.0)
    with RayCluster(cores=2) as cluster:
        run_plan(workflow, cluster, tmp_path / "out", on_event=watch)
    assert_exact(tmp_path / "out", workflow)
    ups = [each.server for each in seen if isinstance(each, events.ServerUp)]
    assert ups == ["ray-0", "ray-1"]


def test_an_actor_reserves_a_gpu_where_there_are_any(url, connect):
    ray = connect(StandIn(url, machines=[{"CPU": 64.0, "GPU": 2.0}, {"CPU": 64.0}]))
    with RayCluster() as cluster:
        cluster.introduction()
    assert ray.reserved == [{"max_restarts": -1, "num_gpus": 1, "num_cpus": 1}] * 2


def test_too_many_cores_are_refused_with_what_there_is(url, connect):
    connect(StandIn(url, machines=[{"CPU": 8.0}, {"CPU": 4.0}]))
    with (
        RayCluster(cores=16) as cluster,
        pytest.raises(ClientError, match="has 16 cores for a worker; the largest has 8"),
    ):
        cluster.introduction()
    with pytest.raises(ClientError, match="cores per worker is 0"):
        RayCluster(cores=0)


def test_what_a_worker_cannot_make_is_tried_again_and_then_said(url, connect, tmp_path, caplog):
    failures = []

    def fail(actor, name):
        if name == "make" and len(failures) < most:
            failures.append(name)
            raise ValueError("no memory for this")

    connect(StandIn(url, before=fail))
    workflow, most = stub_workflow(per_class=2, batch_size=3, seconds=0.0), 1
    with RayCluster() as cluster:
        run_plan(workflow, cluster, tmp_path / "out")
        assert_exact(tmp_path / "out", workflow)
        most = 99
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises((RunIncomplete, JobFailed), match="could not be made"),
        ):
            run_plan(workflow, cluster, tmp_path / "other")
    assert "failed for good: ValueError: no memory for this" in caplog.text


def test_the_cause_is_the_last_line_without_colours():
    assert reason_of(RayError("a\n\x1b[36mb: c\x1b[39m\n\n")) == "b: c"
    assert reason_of(RayError("")) == "RayError"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--executor", "ray", "--server", "embedded"], "takes no --server"),
        (["--executor", "ray", "--servers", "x.json"], "takes no --server"),
        (["--server", "embedded", "--address", "x:1"], "--address needs --executor ray"),
        (["--server", "embedded", "--cores-per-worker", "2"], "--cores-per-worker needs"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(given, message, url, tmp_path, capsys):
    run_plan(stub_workflow(per_class=1), url, tmp_path / "out")
    write_verdicts(quality_folder(tmp_path / "out") / "scripted.csv", [])
    for command in (
        ["run", "sd15_class_prompts", "--out", str(tmp_path / "out")],
        ["regenerate", str(tmp_path / "out")],
    ):
        with pytest.raises(SystemExit) as caught:
            main([*command, *given])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def asked(tmp_path, *more):
    (tmp_path / "classes.txt").write_text("3\n7\n", encoding="utf-8")
    return ["run", "sd15_class_prompts", "--classes", str(tmp_path / "classes.txt"),
            "--executor", "ray", "--out", str(tmp_path / "out"), *more]  # fmt: skip


def test_without_ray_the_message_says_what_to_install(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(asked(tmp_path)) == 1
    assert "pip install" in caplog.text
    assert "[ray]" in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_nobody_answers_for_is_one_line(tmp_path, monkeypatch, caplog):
    """Found out before Ray itself is asked, which would wait."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    assert main(asked(tmp_path, "--address", "127.0.0.1:9")) == 1
    (said,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert "cannot reach a Ray cluster at 127.0.0.1:9" in said


@pytest.mark.slow
def test_a_cluster_is_reached_from_inside_and_through_its_client_server(tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("grpc")
    made = []
    with ray_head() as (*addresses, environment):
        for number, address in enumerate(addresses):
            out = tmp_path / f"out{number}"
            more = ("--address", address, "--per-class", "8", "--batch-size", "4", "--width", "32",
                    "--height", "32", "--steps", "1", "--cores-per-worker", "1",
                    "--out", str(out))  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "synthgrid", *asked(tmp_path, *more)],
                env=environment, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert main(["verify", str(out)]) == 0
            made.append([each | {"sha256": ""} for each in read_records(out)])
    assert [each["index"] for each in made[0]] == list(range(16))
    assert made[0] == made[1]


@pytest.mark.slow
def test_actors_that_are_killed_five_times_lose_nothing(tmp_path):
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    killed, over = [], threading.Event()

    def kill():
        while len(killed) < 5 and not over.wait(0.1):
            images = len(list((tmp_path / "out").glob("*/*.png")))
            if images < 120 * len(killed) + 60:
                continue
            for process in psutil.Process(os.getpid()).children(recursive=True):
                try:
                    if "EngineWorker" in " ".join(process.cmdline()) and process.pid not in killed:
                        process.kill()
                        killed.append(process.pid)
                        break
                except psutil.Error:
                    continue
            time.sleep(1.0)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    more = ("--per-class", "600", "--batch-size", "16", "--width", "32", "--height", "32",
            "--steps", "1", "--cores-per-worker", "1")  # fmt: skip
    try:
        assert main(asked(tmp_path, *more)) == 0
    finally:
        over.set()
        killer.join(timeout=10)
    assert len(set(killed)) == 5
    assert [each["index"] for each in read_records(tmp_path / "out")] == list(range(1200))
    assert main(["verify", str(tmp_path / "out")]) == 0

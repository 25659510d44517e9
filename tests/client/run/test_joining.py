"""Servers join and leave a run through its servers file, and one machine runs several engines.

Covers: client.server.fleet, client.run.dispatch.dispatcher, client.server.launch.
"""

import json
import logging

import pytest

from client.__main__ import main
from client.embedded import runtime
from client.embedded.errors import EmbeddedError
from client.errors import ClientError
from client.run import events
from client.run.runner import run_plan
from client.server.fleet import ServersFile, read_servers
from client.server.launch import (
    EmbeddedServer,
    embedded_device,
    engine_name,
    is_engine_name,
)
from tests.client.helpers import assert_exact, read_records, stub_workflow


@pytest.fixture
def listed(tmp_path):
    """Writes the servers file, and returns its path."""

    def write(*urls):
        path = tmp_path / "servers.json"
        path.write_text(json.dumps([{"url": url} for url in urls]), encoding="utf-8")
        return path

    return write


def names_that_saved(seen):
    return [each.server for each in seen if isinstance(each, events.ImageSaved)]


def run(path, out, workflow, on_event):
    return run_plan(
        workflow, read_servers(path), out, on_event=on_event,
        listed=ServersFile(path, every_s=0.02),
    )  # fmt: skip


def test_a_server_that_joins_the_file_later_takes_its_share(stub_servers, listed, tmp_path):
    first, second = (each.url for each in stub_servers[:2])
    path, seen = listed(first), []

    def watch(event):
        seen.append(event)
        if len(names_that_saved(seen)) == 3:
            listed(first, second)

    workflow = stub_workflow(per_class=20, batch_size=3, seconds=0.05)
    run(path, tmp_path / "out", workflow, watch)
    assert_exact(tmp_path / "out", workflow)
    saved = names_that_saved(seen)
    late = second.removeprefix("http://")
    assert late not in saved[:3]
    assert saved.count(late) >= 9, "the late server made next to nothing"


def test_a_server_taken_out_of_the_file_finishes_its_jobs_and_gets_no_more(
    stub_servers, listed, tmp_path
):
    first, second = (each.url for each in stub_servers[:2])
    path, seen = listed(first, second), []

    def watch(event):
        seen.append(event)
        if len(names_that_saved(seen)) == 6:
            listed(second)

    workflow = stub_workflow(per_class=20, batch_size=3, seconds=0.05)
    run(path, tmp_path / "out", workflow, watch)
    assert_exact(tmp_path / "out", workflow)
    gone = first.removeprefix("http://")
    downs = [each for each in seen if isinstance(each, events.ServerDown)]
    assert [(each.server, each.state) for each in downs] == [(gone, events.OUT)]
    assert "taken out of the list" in downs[0].reason
    assert not [each for each in seen if isinstance(each, events.JobMoved)], "work was lost"
    assert set(names_that_saved(seen[seen.index(downs[0]) :])) == {second.removeprefix("http://")}


def test_a_file_that_is_being_written_changes_nothing(listed, caplog):
    path = listed("http://127.0.0.1:1")
    file = ServersFile(path, every_s=0.0)
    assert file.changed() is None
    path.write_text('[{"url": "http://127', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert file.changed() is None
    assert "the servers stay as they are" in caplog.text
    assert file.changed() is None
    listed("http://127.0.0.1:1", "http://127.0.0.1:22")
    assert [each.name for each in file.changed() or ()] == ["127.0.0.1:1", "127.0.0.1:22"]
    path.unlink()
    assert file.changed() is None


@pytest.mark.parametrize(
    ("server", "device"),
    [
        ("embedded", ""),
        ("embedded:cpu", "cpu"),
        ("embedded:cuda", "cuda"),
        ("embedded:cuda:1", "cuda:1"),
        ("http://127.0.0.1:8188", None),
        ("embedded.example:8188", None),
    ],
)
def test_an_engine_may_name_its_device(server, device):
    assert embedded_device(server) == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA:0"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ClientError, match=f"server embedded:{device}: '{device}' is no device"):
        embedded_device(f"embedded:{device}")


@pytest.mark.slow
def test_a_device_that_this_machine_lacks_is_one_line(tmp_path, caplog):
    (tmp_path / "classes.txt").write_text("cat\n", encoding="utf-8")
    asked = ["run", "sd15_class_prompts", "--classes", str(tmp_path / "classes.txt"),
             "--per-class", "1", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main([*asked, "--server", "embedded:cuda:999"]) == 1
    said = [each for each in caplog.text.splitlines() if "error" in each.lower()]
    assert len(said) == 1
    assert "device 'cuda:999' does not exist: this machine has" in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_engines_on_one_device_share_the_work(tmp_path):
    (tmp_path / "classes.txt").write_text("3\n7\n", encoding="utf-8")
    code = main([
        "run", "sd15_class_prompts", "--classes", str(tmp_path / "classes.txt"), "--per-class",
        "24", "--batch-size", "4", "--steps", "2", "--server", "embedded:cpu", "--server",
        "embedded:cpu", "--out", str(tmp_path / "out"),
    ])  # fmt: skip
    assert code == 0
    assert len(read_records(tmp_path / "out")) == 48
    state = json.loads((tmp_path / "out" / ".synthgrid-state.json").read_text(encoding="utf-8"))
    made = {each["name"]: each["images"] for each in state["servers"]}
    assert made.keys() == {"embedded:cpu", "embedded:cpu (2)"}
    assert min(made.values()) >= 8


@pytest.fixture
def any_device():
    yield
    runtime.use_device("")


def test_an_engine_runs_on_the_device_that_it_is_given(any_device, monkeypatch):
    torch = pytest.importorskip("torch")
    from client.embedded.diffusion.checkpoints import device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, found in [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("cuda", "cuda:0")]:
        runtime.use_device(name)
        assert device() == torch.device(found)
    for name in ("cuda:2", "cuda:999"):
        with pytest.raises(EmbeddedError, match="does not exist: this machine has cuda:0 to cuda"):
            runtime.use_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(EmbeddedError, match="has no CUDA GPU"):
        runtime.use_device("cuda")
    with pytest.raises(EmbeddedError, match="device 'gpu' is none of cpu, cuda"):
        runtime.use_device("gpu")


def test_an_engine_is_named_after_its_place_and_known_by_its_name():
    names = [engine_name("embedded", 1), engine_name("embedded:cpu", 2)]
    assert names == ["embedded", "embedded:cpu (2)"]
    assert all(map(is_engine_name, [*names, "embedded:cuda:1", "embedded:cuda (12)"]))
    assert not any(map(is_engine_name, ["embedded.example:80", "embedded-1", "ray-0", "(2)"]))
    assert EmbeddedServer(device="cpu", name=names[1]).name == "embedded:cpu (2)"

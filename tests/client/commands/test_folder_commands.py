"""extend, verify, status and cancel as a user types them, on real files, servers and processes.

Covers: client.commands.cancel, client.commands.extend, client.commands.status,
client.commands.verify, client.run.cancel, client.run.status.
"""

import json
import os
import re
import signal
import sys
import time
import uuid
from dataclasses import fields
from typing import get_args

import pytest

from client.__main__ import main
from client.folder.run_folder import is_locked, read_generation
from client.folder.verify import verify
from client.run import events
from client.run.cancel import own_prompts
from client.run.status import CANCEL, STATE, read_state
from client.server.server import ComfyServer
from tests.client.helpers import stub_workflow
from tests.client.stand_in import StandIn


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("[!.]*/*")}


@pytest.fixture
def server(stub_servers):
    return stub_servers[0]


def workflow_file(path, **values):
    """A workflow that needs no model, as a file."""
    path.write_text(json.dumps(stub_workflow(**values).graph), encoding="utf-8")
    return path


@pytest.fixture
def made(server, tmp_path, capsys):
    """A finished folder of two classes with two images each."""
    out = tmp_path / "set"
    path = workflow_file(
        tmp_path / "workflow.json", names=("1", "蝙蝠"), per_class=2, batch_size=2, seconds=0.0
    )
    assert main(["run", str(path), "--server", server.url, "--out", str(out)]) == 0
    capsys.readouterr()
    return out


@pytest.fixture
def slow(server, tmp_path, start_client):
    """Starts a client with far too much to do; waits until it has jobs and an image is saved."""

    def start(**options):
        out = tmp_path / "slow"
        path = workflow_file(
            tmp_path / "slow.json", names=("1", "2"), per_class=400, batch_size=2, seconds=0.2
        )
        client = start_client("run", path, "--server", server.url, "--out", out, **options)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = read_state(out)
            if state is not None and state.done and any(each.jobs for each in state.servers):
                return client, out
            assert client.poll() is None, client.communicate()
            time.sleep(0.05)
        raise AssertionError("no images came")

    return start


def own_jobs(handle, root):
    return own_prompts(handle.queue_rows(), read_generation(root).run_id)


def test_extend_adds_the_new_images_and_leaves_the_old_ones_byte_for_byte(made, server, capsys):
    before, lines = files(made), (made / "metadata.jsonl").read_bytes()
    assert main(["extend", str(made), "--per-class", "3", "--server", server.url]) == 0
    assert capsys.readouterr().out.startswith("6 images, 2 of them new at ")
    assert before.items() <= files(made).items()
    assert (made / "metadata.jsonl").read_bytes().startswith(lines)
    assert verify(made).sound
    generation = json.loads((made / "generation.json").read_text("utf-8"))
    assert generation["plan"]["images_per_class"] == 3
    assert main(["extend", str(made), "--per-class", "3", "--server", "http://127.0.0.1:9"]) == 0
    assert "all 6 images already exist" in capsys.readouterr().out


def test_extend_refuses_to_shrink_and_says_how_to_get_a_smaller_set(made, tmp_path, capsys):
    before = files(made)
    for folder, count, told in [
        (made, 1, "planned for 2 images per class, and 1 are fewer; extending only adds"),
        (made, 0, "are fewer"),
        (tmp_path / "none", 3, "is not a folder"),
        (tmp_path, 3, "has no generation.json"),
    ]:
        assert (
            main(
                ["extend", str(folder), "--per-class", str(count), "--server", "http://127.0.0.1:9"]
            )
            == 1
        )
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert files(made) == before


def test_wrong_usage_is_exit_code_2(made, tmp_path):
    for arguments in (
        ["extend", made],
        ["extend", made, "--per-class", "3"],
        ["extend", made, "--per-class", "3", "--server", "http://a", "--collect", "x"],
        ["verify"],
        ["status"],
        ["cancel"],
        ["run", tmp_path / "workflow.json", "--out", made],
    ):
        with pytest.raises(SystemExit) as caught:
            main([str(each) for each in arguments])
        assert caught.value.code == 2, arguments


@pytest.mark.parametrize("command", ["run", "extend", "verify", "status", "cancel"])
def test_the_help_has_examples(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"synthgrid {command} " in capsys.readouterr().out.partition("examples:")[2]


def test_verify_reports_repairs_and_refills(made, server, capsys):
    assert main(["verify", str(made)]) == 0
    assert capsys.readouterr().out == f"sound: 4 images read, of 4 planned: {made}\n"
    image = sorted(made.glob("1/*"))[0]
    image.write_bytes(image.read_bytes()[:100])
    name = image.relative_to(made).as_posix()
    assert main(["verify", str(made)]) == 1
    out = capsys.readouterr().out
    assert re.search(rf"damaged: 1 images .*\n  {name}: not a whole image", out)
    assert f"synthgrid verify {made} --repair" in out
    assert main(["verify", str(made), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["file"] == name
    assert main(["verify", str(made), "--repair"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"repaired: 1 problems; what was moved out is in .*set\.quarantine", out)
    assert "run ...` as before" in out
    assert main(["verify", str(made), "--repair", "--json", "--server", server.url]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    assert main(["verify", str(made)]) == 0
    assert (made.parent / "set.quarantine").is_dir()


def test_one_command_repairs_and_refills(made, server, capsys):
    for image in sorted(made.glob("*/*"))[1:3]:
        image.write_bytes(b"")
    assert main(["verify", str(made), "--repair", "--server", server.url]) == 0
    assert capsys.readouterr().out.endswith(f"sound: 4 images read, of 4 planned: {made}\n")
    assert verify(made).sound


def test_verify_reads_a_sample_and_says_so(made, capsys):
    assert main(["verify", str(made), "--sample", "1%"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(
        rf"no problem found: [1-4] images read( at random, [1-3] only looked at)?, "
        rf"of 4 planned: {made}\n",
        out,
    )
    assert main(["verify", str(made), "--sample", "100%"]) == 0
    assert capsys.readouterr().out == f"sound: 4 images read, of 4 planned: {made}\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sample", "5"], "give one like 5%"),
        (["--sample", "0%"], "give one like 5%"),
        (["--sample", "101%"], "give one like 5%"),
        (["--sample", "5%", "--repair"], "not allowed with"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused_in_words(made, capsys, more, message):
    with pytest.raises(SystemExit):
        main(["verify", str(made), *more])
    assert message in capsys.readouterr().err


def test_status_afterwards_counts_the_folder_and_knows_the_servers(made, server, capsys):
    assert main(["status", str(made)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^1 +2 +2$", out, re.MULTILINE)
    assert re.search(r"^蝙蝠 +2 +2$", out, re.MULTILINE)
    assert re.search(rf"^{server.url[7:]} +up +4 ", out, re.MULTILINE)
    assert re.search(r"4 of 4 images in .*; the last run ended .*, complete$", out, re.MULTILINE)
    sorted(made.glob("1/*"))[0].unlink()
    assert main(["status", str(made), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["done"], value["planned"], value["running"], value["outcome"]) == (
        3,
        4,
        False,
        "complete",
    )
    assert value["classes"] == {"1": {"done": 1, "planned": 2}, "蝙蝠": {"done": 2, "planned": 2}}
    (found,) = value["servers"]
    assert (found["url"], found["images"], found["jobs"]) == (server.url, 4, [])


def test_status_needs_neither_state_file_nor_plan(made, tmp_path, capsys):
    for text in ("", "{", "[]", '{"version": 9}', '{"version": 1, "servers": [{}]}'):
        (made / STATE).write_text(text, encoding="utf-8")
        assert main(["status", str(made)]) == 0
        assert "no run is known" in capsys.readouterr().out
    (made / "generation.json").unlink()
    assert main(["status", str(made)]) == 0
    assert re.search(r"^1 +2 +\?$", capsys.readouterr().out, re.MULTILINE)
    assert main(["status", str(tmp_path / "none")]) == 1


def test_cancel_stops_a_running_client_as_ctrl_c_would(slow, server, capsys):
    """And touches nobody else's job."""
    client, out = slow()
    assert main(["status", str(out), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["running"], value["outcome"], value["pid"], value["planned"]) == (
        True,
        "running",
        client.pid,
        800,
    )
    assert 0 < value["done"] == sum(each["done"] for each in value["classes"].values()) < 800
    with ComfyServer(server.url) as handle:
        theirs = str(uuid.uuid4())
        other = stub_workflow(seed=5)
        handle.submit(other.for_batch(0, folder="synthgrid/0a0a0a0a"), prompt_id=theirs)
        assert main(["cancel", str(out)]) == 0
        assert capsys.readouterr().out.startswith("the client has stopped\n")
        _, err = client.communicate(timeout=30)
        assert client.returncode == 130
        assert re.search(
            r"asked to stop by another process[^$]*interrupted\. \d+ of 800 images are in", err
        )
        assert own_jobs(handle, out) == []
        assert handle.wait([theirs], timeout_s=60).result.outcome == "success"
    assert not (out / CANCEL).exists()
    assert read_state(out).outcome == "interrupted"
    assert verify(out).problems == ()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to ignore")
def test_cancel_reaches_a_client_in_the_background_of_a_script_where_ctrl_c_does_not(slow):
    client, out = slow(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    client.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert client.poll() is None
    assert main(["cancel", str(out)]) == 0
    client.communicate(timeout=30)
    assert client.returncode == 130


def test_cancel_takes_away_the_jobs_of_a_client_that_was_killed(slow, server, capsys):
    client, out = slow()
    client.kill()
    client.communicate()
    (out / STATE).unlink()  # it need not have lived to write it
    with ComfyServer(server.url) as handle:
        assert own_jobs(handle, out)
        assert main(["cancel", str(out)]) == 0
        assert re.search(
            r"no client is writing the folder\n\S+: [12] jobs cancelled", capsys.readouterr().out
        )
        deadline = time.monotonic() + 20
        while own_jobs(handle, out) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert own_jobs(handle, out) == []


def test_status_of_a_killed_client_says_so(slow, server, capsys):
    client, out = slow()
    client.kill()
    client.communicate()
    assert main(["status", str(out)]) == 0
    assert "the last run was cut off" in capsys.readouterr().out
    assert main(["cancel", str(out), "--server", server.url]) == 0


def test_cancel_says_which_server_it_could_not_reach(made, capsys):
    assert main(["cancel", str(made), "--server", "http://127.0.0.1:9"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "no client is writing the folder\n"
    assert "no server answers at http://127.0.0.1:9" in captured.err


def test_status_of_a_strangers_folder_has_no_power_over_the_terminal(made, capsys):
    path = made / STATE
    value = json.loads(path.read_text(encoding="utf-8"))
    value["servers"][0] |= {"reason": "\x1b]0;owned\x07", "name": "\x9b2J"}
    value |= {"outcome": "incomplete", "reason": "\x1b[2J\u202egnp"}
    path.write_text(json.dumps(value), encoding="utf-8")
    for options in ([], ["--json"]):
        assert main(["status", str(made), *options]) == 0
        shown = capsys.readouterr().out
        assert all(line.isprintable() for line in shown.splitlines())
        assert "owned" in shown


@pytest.fixture
def listener(object_info):
    """A server that a stranger's folder may name: it notes what it is sent."""
    server = StandIn(object_info)
    yield server
    server.stop()


def test_cancel_sends_a_token_to_no_server_that_only_the_folder_names(
    made, listener, capsys, monkeypatch
):
    monkeypatch.setenv("COMFY_TOKEN", "a-token-that-nobody-may-see")
    for path in (made / "generation.json", made / STATE):
        text = path.read_text(encoding="utf-8")
        url = json.loads(text).get("server", {}).get("url") or read_state(made).servers[0].url
        path.write_text(text.replace(url, listener.url), encoding="utf-8")
    assert main(["cancel", str(made), "--token-env", "COMFY_TOKEN"]) == 1
    told = capsys.readouterr().err
    assert re.search(rf"^error: .*{re.escape(listener.url)}\); add --server URL$", told.strip())
    assert listener.asked == []
    assert main(["cancel", str(made)]) == 0  # without a secret, the folder's server is asked
    assert {headers.get("Authorization") for _, _, headers in listener.asked} == {None}


def test_cancel_sends_a_token_to_the_server_that_is_named(made, listener, monkeypatch):
    monkeypatch.setenv("COMFY_TOKEN", "a-token-that-nobody-may-see")
    options = ["--server", listener.url, "--token-env", "COMFY_TOKEN"]
    assert main(["cancel", str(made), *options]) == 0
    sent = {headers.get("Authorization") for _, _, headers in listener.asked}
    assert sent == {"Bearer a-token-that-nobody-may-see"}


@pytest.mark.parametrize("command", ["run", "cancel"])
def test_one_token_for_two_servers_is_refused_before_it_is_sent(
    made, listener, object_info, capsys, monkeypatch, command, tmp_path
):
    monkeypatch.setenv("COMFY_TOKEN", "a-token-that-nobody-may-see")
    other = StandIn(object_info)
    arguments = {
        "run": [str(tmp_path / "workflow.json"), "--out", str(tmp_path / "new")],
        "cancel": [str(made)],
    }[command]
    servers = ["--server", listener.url, "--server", other.url]
    assert main([command, *arguments, *servers, "--token-env", "COMFY_TOKEN"]) == 1
    other.stop()
    told = capsys.readouterr().err
    assert "--token-env is for one server, and 2 are given" in told
    assert "--servers" in told
    assert (listener.asked, other.asked) == ([], [])


def test_a_wish_to_cancel_of_before_a_run_does_not_stop_it(server, tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / CANCEL).touch()
    os.utime(out / CANCEL, (1, 1))
    path = workflow_file(
        tmp_path / "workflow.json", names=("1", "2"), per_class=8, batch_size=1, seconds=0.15
    )
    assert main(["run", str(path), "--server", server.url, "--out", str(out)]) == 0
    assert not is_locked(out)


def test_only_jobs_that_save_into_the_runs_own_folders_are_its_own():
    def row(name, folder):
        return [0, name, stub_workflow().for_batch(0, folder=folder), {}, []]

    queue = {
        "queue_running": [row("a", "synthgrid/12345678")],
        "queue_pending": [
            row("b", "synthgrid/12345678-2"),
            row("c", "synthgrid/123456789"),
            row("d", "synthgrid"),
            row("g", "synthgrid/12345678-r1"),
            row("h", "synthgrid/12345678-r0a1b2c3d-2"),
            [0, "e", "x"],
            [],
            [0, "f", {"1": {"class_type": "SaveImage"}}], None,
        ],
    }  # fmt: skip
    assert own_prompts(queue, "12345678") == ["a", "b", "g", "h"]
    assert (
        own_prompts("nonsense", "12345678") == own_prompts({"queue_running": 3}, "12345678") == []
    )


def test_json_events_are_the_only_thing_on_standard_output(made, server, run_client):
    done = run_client("extend", made, "--per-class", "4", "--server", server.url, "--json-events")
    assert done.returncode == 0
    values = [json.loads(line) for line in done.stdout.splitlines()]
    required = {
        events.kind_of(kind): {"event", *(each.name for each in fields(kind))}
        for kind in get_args(events.AnyEvent)
    }
    assert all(set(value) == required[value["event"]] for value in values)
    kinds = [value["event"] for value in values]
    assert (kinds[0], kinds[-1], kinds.count("image_saved")) == ("run_started", "run_ended", 4)
    assert values[-1]["outcome"] == "complete"
    assert {value["file_name"] for value in values if value["event"] == "image_saved"} < set(
        files(made)
    )
    assert done.stderr.splitlines()[-1].startswith("8 images, 4 of them new at ")


def test_a_servers_file_and_moving_instead_of_copying(made, server, tmp_path, capsys):
    output = server.directory / "output"
    (tmp_path / "servers.json").write_text(
        json.dumps([{"url": server.url, "name": "mine", "output_directory": str(output)}]),
        encoding="utf-8",
    )
    assert (
        main(["extend", str(made), "--per-class", "3", "--servers", str(tmp_path / "servers.json")])
        == 0
    )
    run_id = read_generation(made).run_id
    assert (
        len(list((output / "synthgrid" / run_id).glob("*/*"))) == 4
    )  # those of the first run were copied
    url = server.url
    assert (
        main(
            [
                "extend",
                str(made),
                "--per-class",
                "4",
                "--server",
                url,
                "--collect",
                f"local:{output}",
            ]
        )
        == 0
    )
    assert len(list((output / "synthgrid" / run_id).glob("*/*"))) == 4
    assert verify(made).sound
    capsys.readouterr()
    assert (
        main(
            [
                "extend",
                str(made),
                "--per-class",
                "5",
                "--server",
                url,
                "--collect",
                "local:/no/such",
            ]
        )
        == 1
    )
    assert "is not a folder" in capsys.readouterr().err

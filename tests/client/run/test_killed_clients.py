"""A client is killed, stopped and cut off at random moments, and its folder damaged in between.

Covers: client.run.runner, client.folder.repair.
"""

import json
import os
import random
import signal
import time

import pytest

from client.folder.repair import repair
from client.folder.verify import verify
from client.run.runner import run_plan
from tests.client.helpers import assert_exact, stub_workflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of Unix"),
]
SESSION_S = 60.0


def images(out):
    return sorted(out.glob("*/*.png"))


def cut_image(out, chance):
    for path in images(out)[:1]:
        path.write_bytes(path.read_bytes()[: chance.randrange(200)])


def flip_a_bit(out, chance):
    for path in chance.sample(images(out), min(2, len(images(out)))):
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


def delete_an_image(out, chance):
    for path in images(out)[-1:]:
        path.unlink()


def cut_the_records(out, chance):
    path = out / "metadata.jsonl"
    if path.is_file():
        data = path.read_bytes()
        path.write_bytes(data[: chance.randrange(len(data) + 1)])


def write_over_the_records(out, chance):
    path = out / "metadata.jsonl"
    if path.is_file():
        with path.open("ab") as stream:
            stream.write(chance.randbytes(40) + b"\n")


def cut_the_state(out, chance):
    path = out / ".synthgrid-state.json"
    if path.is_file():
        path.write_bytes(path.read_bytes()[: chance.randrange(50)])


def nothing(out, chance):
    pass


DAMAGES = (
    cut_image,
    flip_a_bit,
    delete_an_image,
    cut_the_records,
    write_over_the_records,
    cut_the_state,
    nothing,
)


def end(client, how):
    """Ends a session; what it wrote to stderr."""
    if how == "stop":
        client.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        client.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    if client.poll() is None:
        client.send_signal(signal.SIGKILL if how in ("kill", "stop") else signal.SIGINT)
    return client.communicate(timeout=SESSION_S)[1]


def session(client, out, more, how):
    """Waits for so many images more, and ends the client in this way."""
    wanted, deadline = len(images(out)) + more, time.monotonic() + SESSION_S
    while len(images(out)) < wanted and client.poll() is None:
        assert time.monotonic() < deadline, "no images come"
        time.sleep(0.005)
    assert "Traceback" not in end(client, how)


@pytest.mark.parametrize("seed", range(30))
def test_after_kills_and_damage_a_repaired_folder_becomes_exactly_the_plan(
    seed, stub_servers, start_client, tmp_path
):
    chance, out = random.Random(seed), tmp_path / "out"
    workflow = stub_workflow(seed=seed, per_class=12, batch_size=1 + seed % 4, seconds=0.02)
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow.graph), encoding="utf-8")
    urls = [server.url for server in stub_servers[: 1 + seed % 2]]
    servers = [each for url in urls for each in ("--server", url)]
    for _ in range(chance.randint(2, 4)):
        client = start_client("run", path, *servers, "--out", out)
        session(client, out, chance.randrange(12), chance.choice(["kill", "stop", "interrupt"]))
        chance.choice(DAMAGES)(out, chance)
        if chance.random() < 0.5 and out.is_dir():
            repair(out)
    repair(out)
    run_plan(workflow, urls, out)
    assert_exact(out, workflow)
    assert verify(out).sound

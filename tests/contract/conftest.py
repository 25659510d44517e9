"""A server to check the contract with: the embedded engine as a process, or any ComfyUI.

python -m pytest tests/contract                                              the embedded engine
SYNTHGRID_CONTRACT_URL=URL python -m pytest tests/contract  a ComfyUI that has contract_nodes.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests.contract.versions import Behaviour, behaviour_of

PATIENCE_S = 60.0


class Listener:
    """A websocket with a client id of its own."""

    def __init__(self, url: str) -> None:
        self.client_id = uuid.uuid4().hex
        self.socket = websocket.create_connection(
            f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}", timeout=PATIENCE_S
        )

    def next(self) -> tuple[str, dict[str, Any]]:
        """(type, data) of the next event that is text."""
        while True:
            message = self.socket.recv()
            if isinstance(message, str):
                event = json.loads(message)
                return event["type"], event["data"]

    def frames_until_done(self) -> list[bytes]:
        """The binary messages up to executing{node: null}, which ends a prompt."""
        frames = []
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):
                frames.append(message)
                continue
            event = json.loads(message)
            if event["type"] == "executing" and event["data"]["node"] is None:
                return frames

    def until_done(self) -> list[tuple[str, dict[str, Any]]]:
        """Events up to executing{node: null}, which ends a prompt."""
        events = [self.next()]
        while events[-1][0] != "executing" or events[-1][1]["node"] is not None:
            events.append(self.next())
        return events


class Contract:
    """The calls that the tests make."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE_S, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=PATIENCE_S, **options)

    def queue(self, prompt: dict[str, Any], **more: Any) -> str:
        """Posts a prompt that must be accepted; returns its id."""
        answer = self.post("/prompt", {"prompt": prompt, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history entry, when it is there."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").json().get(prompt_id)
            if entry:
                return entry
            time.sleep(0.02)
        raise AssertionError(f"prompt {prompt_id} did not end within {PATIENCE_S} s")

    def run(self, prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Posts, waits, returns the history entry."""
        return self.wait(self.queue(prompt, **more))

    def listen(self) -> Listener:
        return Listener(self.url)


def _start(base: Path) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("serve_engine.py")), "0", str(base)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "listening on " in line:
            break
    else:
        raise AssertionError("the engine did not start:\n" + "".join(lines))
    yield lines[-1].split("listening on ")[1].strip()
    process.communicate()  # closes its standard input, at which it stops
    assert process.returncode == 0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    given = os.environ.get("SYNTHGRID_CONTRACT_URL")
    if not given:
        for url in _start(tmp_path_factory.mktemp("engine")):
            yield Contract(url)
        return
    contract = Contract(given.rstrip("/"))
    if not contract.get("/object_info/ContractShow").json():
        pytest.skip("this server lacks tests/contract/contract_nodes.py; link it into custom_nodes")
    yield contract


@pytest.fixture(scope="session")
def behaviour(server: Contract) -> Behaviour:
    """What this server's version does otherwise than others; see versions.py."""
    system = server.get("/system_stats").json()["system"]
    return behaviour_of(system["comfyui_version"], engine="engine" in system)


@pytest.fixture
def listener(server: Contract) -> Iterator[Listener]:
    listener = server.listen()
    yield listener
    listener.socket.close()

"""A page of ComfyUI in a headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
START_S = 120.0


class Page:
    """An open page; `js` evaluates an expression in it, also one that is a promise."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=120)
        self._sent = 0

    def command(self, method: str, **parameters: Any) -> Any:
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._sent:
                return answer["result"]

    def js(self, expression: str) -> Any:
        answer = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = START_S) -> Any:
        """The first value of the expression that is true."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := self.js(expression):
                return value
            time.sleep(0.3)
        raise AssertionError(f"not so within {timeout_s} s: {expression}")

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow, again if the frontend's own first one has replaced it after a second.

        A group node may become other nodes, but never fewer.
        """
        count = f"app.graph.nodes.length >= {len(workflow['nodes'])}"
        later = f"new Promise((done) => setTimeout(() => done({count}), 1000))"
        self.wait(f"app.loadGraphData({json.dumps(workflow)}).then(() => {later})")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Page]:
    """A page at `url`, once ComfyUI's frontend is there; `folder` is for the browser's files."""
    assert CHROMIUM
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "about:blank"]
    command += ["--remote-debugging-port=0", "--remote-allow-origins=*"]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        page = Page(_address(folder / "DevToolsActivePort"))
        page.command("Page.navigate", url=url)
        page.wait("!!(window.app?.extensionManager && app.canvas && app.graph)")
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(file: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if file.is_file() and file.read_text().strip():
            port = file.read_text().split()[0]
            tabs = requests.get(f"http://127.0.0.1:{port}/json", timeout=30).json()
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        time.sleep(0.2)
    raise AssertionError("the browser did not start")

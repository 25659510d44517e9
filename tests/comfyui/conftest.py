"""A real ComfyUI as a process of its own: make test-comfyui COMFYUI_DIR=... [COMFYUI_PYTHON=...].

It runs on the CPU, on a free loopback port, with a temporary base directory, and is stopped
afterwards. The whole repository is linked into custom_nodes, as a git clone would put it there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sd15_checkpoint import NAME, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
START_S = 180.0


@dataclass(frozen=True)
class ComfyUI:
    """A running ComfyUI: its address, its base directory, its log file and its process."""

    url: str
    base: Path
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def memory(self) -> int:
        """Bytes of main memory that the server's process holds."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(shown.stdout) * 1024

    def run(self, graph: dict[str, Any], *, timeout_s: float = 120.0) -> dict[str, Any]:
        """Posts a graph, waits, and returns its history entry."""
        answer = requests.post(f"{self.url}/prompt", json={"prompt": graph}, timeout=30)
        assert answer.status_code == 200, answer.text
        prompt_id = answer.json()["prompt_id"]
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            entry = (
                requests.get(f"{self.url}/history/{prompt_id}", timeout=30).json().get(prompt_id)
            )
            if entry:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"no answer within {timeout_s} s")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything below this folder as needing a real ComfyUI, and skips it without one."""
    skip = pytest.mark.skip(
        reason="no COMFYUI_DIR; run: make test-comfyui COMFYUI_DIR=/path/to/ComfyUI"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfyui)
            if not os.environ.get("COMFYUI_DIR"):
                item.add_marker(skip)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running_comfyui(base: Path, packs: dict[str, Path]) -> Iterator[ComfyUI]:
    """A ComfyUI with these packs linked into custom_nodes, {name there: folder or file}."""
    (base / "custom_nodes").mkdir(parents=True)
    (base / "models" / "checkpoints").mkdir(parents=True)
    write_checkpoint(base / "models" / "checkpoints" / NAME)
    for name, target in packs.items():
        (base / "custom_nodes" / name).symlink_to(target, target_is_directory=target.is_dir())
    port, log_path = free_port(), base / "comfyui.log"
    command = [os.environ.get("COMFYUI_PYTHON") or sys.executable, "main.py", "--cpu"]
    command += ["--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": f"{base}/cache"}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=os.environ["COMFYUI_DIR"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    server = ComfyUI(f"http://127.0.0.1:{port}", base, log_path, process)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(server: ComfyUI, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ComfyUI ended while starting:\n{server.log[-3000:]}"
        try:
            requests.get(f"{server.url}/system_stats", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.3)
    raise AssertionError(f"ComfyUI did not answer within {START_S} s:\n{server.log[-3000:]}")


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    packs = {
        "synthgrid": ROOT,
        "contract_nodes.py": ROOT / "tests" / "contract" / "contract_nodes.py",
        # ComfyUI's own, which another base directory hides
        "websocket_image_save.py": Path(os.environ["COMFYUI_DIR"])
        / "custom_nodes"
        / "websocket_image_save.py",
    }
    with running_comfyui(tmp_path_factory.mktemp("comfyui"), packs) as server:
        yield server


@pytest.fixture
def start_comfyui() -> Callable[..., Any]:
    return running_comfyui

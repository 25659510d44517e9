"""A Ray head on loopback, for slow tests: `pytest.importorskip("ray")` and `grpc` first."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
_STARTS_S = 120.0


@contextmanager
def ray_head(cpus: int = 2) -> Iterator[tuple[str, str, dict[str, str]]]:
    """HOST:PORT, ray://HOST:PORT of its client server, and the environment for whoever connects:
    with a token, since a head asks for one wherever Ray has ever made one."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(_REPOSITORY),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
    }
    port, client_port = _free_port(), _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
         "--node-ip-address", "127.0.0.1", "--port", str(port),
         "--ray-client-server-port", str(client_port), "--num-cpus", str(cpus),
         "--include-dashboard", "false", "--object-store-memory", "100000000"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for each in (port, client_port):
            _wait_for(each, process)
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}", environment
    finally:
        process.terminate()
        process.wait(timeout=120)  # it says goodbye to its nodes first


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError("the Ray head did not start")

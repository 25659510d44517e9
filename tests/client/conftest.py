"""Shared parts of the client's tests: the workflow file, an object_info like the server's, a real embedded server."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import comfy_nodes
from client.workflow import load_workflow

ROOT = Path(comfy_nodes.__file__).resolve().parent.parent
WORKFLOW = ROOT / "workflows" / "api" / "sd15_class_prompts.json"


@pytest.fixture
def workflow_path():
    return WORKFLOW


@pytest.fixture(scope="session")
def workflow():
    """The workflow that ships with SynthGrid, as loaded."""
    return load_workflow(WORKFLOW)


@pytest.fixture
def graph():
    """The same as plain JSON values, free to change."""
    return json.loads(WORKFLOW.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def object_info():
    """/object_info for the nodes of the workflow: ours from their own INPUT_TYPES, core's as ComfyUI 0.8.0 has them."""
    info = {name: _described(node) for name, node in comfy_nodes.NODE_CLASS_MAPPINGS.items()}
    info["CheckpointLoaderSimple"] = {
        "input": {"required": {"ckpt_name": [["sd_xl_base.safetensors", "v1-5-pruned-emaonly.safetensors"], {}]}},
        "output": ["MODEL", "CLIP", "VAE"],
    }
    info["KSamplerSelect"] = {
        "input": {"required": {"sampler_name": ["COMBO", {"options": ["euler", "euler_ancestral", "heun"]}]}},
        "output": ["SAMPLER"],
    }
    info["BasicScheduler"] = {
        "input": {
            "required": {
                "model": ["MODEL"],
                "scheduler": [["normal", "karras"]],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
            }
        },
        "output": ["SIGMAS"],
    }
    info["CFGGuider"] = {
        "input": {
            "required": {
                "model": ["MODEL"],
                "positive": ["CONDITIONING"],
                "negative": ["CONDITIONING"],
                "cfg": ["FLOAT", {"min": 0.0, "max": 100.0}],
            }
        },
        "output": ["GUIDER"],
    }
    info["SamplerCustomAdvanced"] = {
        "input": {
            "required": {
                "noise": ["NOISE"],
                "guider": ["GUIDER"],
                "sampler": ["SAMPLER"],
                "sigmas": ["SIGMAS"],
                "latent_image": ["LATENT"],
            }
        },
        "output": ["LATENT", "LATENT"],
    }
    info["VAEDecode"] = {"input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}}, "output": ["IMAGE"]}
    return json.loads(json.dumps(info))


def _described(node):
    return {"input": node.INPUT_TYPES(), "output": list(node.RETURN_TYPES)}


class ServerProcess:
    """A real `python -m client serve` that tests may kill and start again on the same port and folder."""

    def __init__(self, directory):
        self.directory = directory
        self.port = 0
        self.process = None
        self.starts = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.starts += 1
        log = self.directory / f"log-{self.starts}.txt"
        command = [sys.executable, "-m", "client", "serve", "--port", str(self.port), "--exit-with-parent"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--base-directory", str(self.directory)],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(),
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on http://\S+?:(\d+)", log.read_text(encoding="utf-8"))
            if found:
                self.port = int(found[1])
                return self
            time.sleep(0.05)
        raise AssertionError(log.read_text(encoding="utf-8"))

    def kill(self):
        self.process.kill()
        self.process.wait()


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """One embedded server for the tests that leave it alive."""
    server = ServerProcess(tmp_path_factory.mktemp("engine")).start()
    yield server
    server.kill()


@pytest.fixture
def own_server(tmp_path):
    """An embedded server that the test may kill and start again."""
    (tmp_path / "engine").mkdir()
    server = ServerProcess(tmp_path / "engine").start()
    yield server
    server.kill()


class FaultProxy:
    """A proxy on loopback in front of a server. `fault(method, path, number)` names what goes wrong with a request:

    "lose request", "lose answer", "cut" (half the body), "corrupt" (other bytes of the same length), or None. `number`
    counts the requests with this method and path, from 0. Web sockets are answered with 404. `passed` lists the requests
    that reached the server, `graphs` the graphs that were posted.
    """

    def __init__(self, target):
        self.target = target
        self.fault = lambda method, path, number: None
        self.passed = []
        self.graphs = []
        self._counts = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, method, prefix):
        """How many requests of this kind reached the server."""
        return sum(m == method and path.startswith(prefix) for m, path in self.passed)

    def stop(self):
        """Closes the port and every connection: from now on nobody is there."""
        self.fault = lambda method, path, number: "lose request"
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with contextlib.suppress(OSError):
                    proxy._pass_on(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        return Handler

    def _pass_on(self, handler):
        path = handler.path.partition("?")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        number = self._counts[handler.command, path]
        self._counts[handler.command, path] += 1
        fault = self.fault(handler.command, path, number)
        if path == "/ws":
            handler.send_error(404)
            return
        if fault == "lose request":
            handler.connection.close()
            return
        self.passed.append((handler.command, path))
        if path == "/prompt":
            self.graphs.append(json.loads(body)["prompt"])
        upstream = HTTPConnection("127.0.0.1", int(self.target.rpartition(":")[2]), timeout=30)
        upstream.request(handler.command, handler.path, body, {"Content-Type": "application/json"})
        answer = upstream.getresponse()
        data = answer.read()
        if fault == "lose answer":
            handler.connection.close()
            return
        handler.send_response(answer.status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if fault == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        handler.wfile.write(data[: len(data) // 2] if fault == "cut" else data)


@pytest.fixture
def proxy(shared_server):
    """A FaultProxy in front of the shared server."""
    proxy = FaultProxy(shared_server.url)
    yield proxy
    proxy.stop()


@pytest.fixture
def run_client():
    """Runs `python -m client ...` to its end; returns the completed process with texts."""

    def run(*arguments, timeout_s=120):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, encoding="utf-8", timeout=timeout_s
        )

    return run


@pytest.fixture
def start_client():
    """Starts `python -m client ...` and returns the process; killed at the end of the test."""
    started = []

    def start(*arguments, **options):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()

"""Shared parts of the client's tests: the workflow, an object_info, a real embedded server."""

import json
import subprocess
import sys

import pytest

import comfy_nodes
from client.embedded.registry import Registry
from client.workflow.graph import load_workflow
from tests.client.fault_proxy import FaultProxy
from tests.client.helpers import ROOT, ServerProcess, environment, stub_server

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
def own_nodes():
    """/object_info for our own nodes, from their INPUT_TYPES."""
    registry = Registry()
    registry.add(comfy_nodes.NODE_CLASS_MAPPINGS, comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS)
    return registry.describe_all()


@pytest.fixture(scope="session")
def object_info():
    """/object_info for the workflow's nodes: ours from INPUT_TYPES, core's as in ComfyUI 0.8.0."""
    info = {name: _described(node) for name, node in comfy_nodes.NODE_CLASS_MAPPINGS.items()}
    info["CheckpointLoaderSimple"] = {
        "input": {
            "required": {
                "ckpt_name": [["sd_xl_base.safetensors", "v1-5-pruned-emaonly.safetensors"], {}]
            }
        },
        "output": ["MODEL", "CLIP", "VAE"],
    }
    info["KSamplerSelect"] = {
        "input": {
            "required": {
                "sampler_name": ["COMBO", {"options": ["euler", "euler_ancestral", "heun"]}]
            }
        },
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
    info["VAEDecode"] = {
        "input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}},
        "output": ["IMAGE"],
    }
    return json.loads(json.dumps(info))


def _described(node):
    return {"input": node.INPUT_TYPES(), "output": list(node.RETURN_TYPES)}


@pytest.fixture
def own_server(tmp_path):
    """An embedded server that the test may kill and start again."""
    (tmp_path / "engine").mkdir()
    server = ServerProcess(tmp_path / "engine").start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def stub_servers(tmp_path_factory):
    """Three stub servers for the tests that leave them alive."""
    servers = [stub_server(tmp_path_factory.mktemp(f"stub{number}")) for number in range(3)]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def start_stub(tmp_path):
    """Starts stub servers that the test may kill."""
    started = []

    def start(**environment):
        started.append(stub_server(tmp_path / f"stub-{len(started)}", **environment))
        return started[-1]

    yield start
    for server in started:
        server.kill()


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
            command,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
        )

    return run


@pytest.fixture
def start_client():
    """Starts `python -m client ...` and returns the process; killed at the end of the test."""
    started = []

    def start(*arguments, **options):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()

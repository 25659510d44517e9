"""Clients that others wrote for ComfyUI work with the engine: comfy-cli and comfy_api_simplified.

They are no requirement of SynthGrid. To run these tests:

    pip install comfy-cli comfy_api_simplified
    python -m pytest -m slow tests/client/embedded/test_other_clients.py
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.client.embedded.api.test_server import start

pytestmark = pytest.mark.slow


def node(title: str, class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


WORKFLOW = {
    "1": node("Colour", "EmptyImage", width=8, height=8, batch_size=1, color=255),
    "2": node("Save", "SaveImage", images=["1", 0], filename_prefix="other"),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """(url, output folder)."""
    base = tmp_path_factory.mktemp("engine")
    process, url = start(base)
    yield url, base / "output"
    process.communicate()


@pytest.fixture
def simplified(tmp_path) -> Any:
    """(the module, WORKFLOW as it holds one)."""
    module = pytest.importorskip("comfy_api_simplified")
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW), "utf-8")
    return module, module.ComfyWorkflowWrapper(str(tmp_path / "workflow.json"))


def test_comfy_api_simplified_queues_waits_and_fetches(engine, simplified):
    module, workflow = simplified
    workflow.set_node_param("Colour", "width", 16)
    images = module.ComfyApiWrapper(engine[0]).queue_and_wait_images(workflow, "Save")
    ((name, data),) = images.items()
    assert data == (engine[1] / name.rsplit("/", 1)[-1]).read_bytes()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        assert image.size == (16, 8)


def test_comfy_api_simplified_uploads_and_asks(engine, simplified, tmp_path):
    module, workflow = simplified
    api = module.ComfyApiWrapper(engine[0])
    Image.new("RGB", (4, 4)).save(tmp_path / "cat.png")
    assert api.upload_image(str(tmp_path / "cat.png"))["name"] == "cat.png"
    api.queue_and_wait_images(workflow, "Save")
    assert api.get_queue() == {"queue_running": [], "queue_pending": []}
    assert api.get_embeddings() == []
    assert "EmptyImage" in api.get_object_info()
    assert api.get_system_stats()["system"]["comfyui_version"]


def comfy(home: Path, *arguments: str) -> dict[str, Any]:
    """The data with which comfy-cli answers a command."""
    pytest.importorskip("comfy_cli")
    command = [sys.executable, "-m", "comfy_cli", "--json", "--skip-prompt", "--where", "local"]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"HOME": str(home), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["ok"], answer
    return answer["data"]


def test_comfy_cli_runs_a_workflow_and_lists_its_job(engine, tmp_path):
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW), "utf-8")
    port = engine[0].rsplit(":", 1)[-1]
    where = ("--host", "127.0.0.1", "--port", port)
    data = comfy(tmp_path, "run", "--workflow", str(tmp_path / "workflow.json"), "--wait", *where)
    assert data["status"] == "completed"
    assert data["executed_node_ids"] == ["1", "2"]
    (url,) = data["outputs"]
    assert url.startswith(f"{engine[0]}/view?filename=other_")
    jobs = comfy(tmp_path, "jobs", "ls", *where)
    assert data["prompt_id"] in json.dumps(jobs)

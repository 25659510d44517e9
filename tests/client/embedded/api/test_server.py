"""The engine as a process: the users' workflow, from the queue to the files, and how it ends.

Covers: client.embedded, client.embedded.api.server, client.embedded.engine, client.embedded.errors,
client.embedded.nodes.images, client.embedded.nodes.sampling, client.embedded.runtime,
client.embedded.api.sockets."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from PIL import Image, ImageChops

from client.embedded import DEFAULT_CHECKPOINT, DEFAULT_SIZE, missing_requirements
from client.embedded.api.server import serve
from client.embedded.errors import EmbeddedError

REPOSITORY = Path(__file__).resolve().parents[4]
WORKFLOW = REPOSITORY / "workflows" / "api" / "sd15_class_prompts.json"
SERVE = """
import logging, sys
from pathlib import Path
from client.embedded.api.server import serve
logging.basicConfig(level=logging.INFO, format="%(message)s")
folders = [Path(each) for each in sys.argv[2:]]
serve(
    port=0,
    base_directory=Path(sys.argv[1]),
    checkpoint_directories=folders,
    exit_with_parent=True,
)
"""

PARENT = """
import subprocess, sys
server = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdin=subprocess.PIPE)
server.wait()
"""


def start(
    base: Path, *checkpoints: Path, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """(process, url), of the engine as SERVE starts it."""
    command = [sys.executable, "-c", SERVE, str(base), *map(str, checkpoints)]
    return started(command, environment)


def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """(process, url). One thread: the models are so small that a second would only wait."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment or {}),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "listening on " in line:
            return process, line.split("listening on ")[1].strip()
    raise AssertionError("".join(lines))


def wait_for(condition: Any, *, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def is_gone(url: str) -> bool:
    try:
        requests.get(f"{url}/queue", timeout=5)
    except requests.ConnectionError:
        return True
    return False


class Engine:
    def __init__(self, base: Path, url: str) -> None:
        self.base, self.url = base, url

    def queue(self, prompt: dict[str, Any]) -> str:
        answer = requests.post(f"{self.url}/prompt", json={"prompt": prompt}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["prompt_id"]

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The outputs of a prompt that must succeed."""
        prompt_id = self.queue(prompt)
        entry = wait_for(
            lambda: (
                requests.get(f"{self.url}/history/{prompt_id}", timeout=30).json().get(prompt_id)
            )
        )
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
        return entry["outputs"]


@pytest.fixture(scope="module")
def engine(checkpoints, tmp_path_factory) -> Iterator[Engine]:
    base = tmp_path_factory.mktemp("engine")
    process, url = start(base, checkpoints)
    yield Engine(base, url)
    process.communicate()
    assert process.returncode == 0


def workflow(
    folder: str, *, batch_size: int, batch_index: int = 0, steps: int = 3
) -> dict[str, Any]:
    """The workflow as it is in the repository, made small."""
    prompt = json.loads(WORKFLOW.read_text("utf-8"))
    changes = {
        "CheckpointLoaderSimple": {"ckpt_name": "random"},
        "SynthGridClassList": {"classes": "bat\na class whose name is long\n鳥"},
        "SynthGridClassPromptBatcher": {
            "images_per_class": 2,
            "batch_size": batch_size,
            "batch_index": batch_index,
        },
        "SynthGridBatchLatent": {"width": 64, "height": 64},
        "BasicScheduler": {"steps": steps},
        "SynthGridLabelledImageSaver": {"folder": folder},
    }
    for node in prompt.values():
        node["inputs"].update(changes.get(node["class_type"], {}))
    return prompt


def saved(outputs: dict[str, Any]) -> dict[str, Any]:
    return next(output for output in outputs.values() if "synthgrid_records" in output)


def difference(one: Path, other: Path) -> int:
    """The largest difference of two pictures, of 255."""
    pictures = [Image.open(path).convert("RGB") for path in (one, other)]
    return max(high for _, high in ImageChops.difference(*pictures).getextrema())


def test_the_workflow_makes_a_labelled_folder(engine):
    output = saved(engine.run(workflow("whole", batch_size=6)))
    assert len(output["images"]) == len(output["synthgrid_records"]) == 6
    for image, record in zip(output["images"], output["synthgrid_records"], strict=True):
        path = engine.base / "output" / image["subfolder"] / image["filename"]
        assert path == engine.base / "output" / "whole" / record["file_name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
        assert (
            requests.get(f"{engine.url}/view", params=image, timeout=30).content
            == path.read_bytes()
        )
        with Image.open(path) as image:
            assert image.size == (64, 64)
    lines = (engine.base / "output" / "whole" / "metadata.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == output["synthgrid_records"]


def test_an_image_does_not_depend_on_its_batch(engine):
    whole = saved(engine.run(workflow("six", batch_size=6)))["synthgrid_records"]
    for batch_index in range(2):
        for record in saved(engine.run(workflow("four", batch_size=4, batch_index=batch_index)))[
            "synthgrid_records"
        ]:
            assert record["file_name"] in [each["file_name"] for each in whole]
            paths = [
                engine.base / "output" / folder / record["file_name"] for folder in ("six", "four")
            ]
            assert difference(*paths) <= 1


def test_stock_nodes_make_the_same_image_from_its_record(engine):
    record = saved(engine.run(workflow("batch", batch_size=6)))["synthgrid_records"][3]
    settings = record["settings"]
    sampler = {
        "model": ["1", 0],
        "positive": ["2", 0],
        "negative": ["3", 0],
        "latent_image": ["4", 0],
        "seed": record["seed"],
        "sampler_name": settings["sampler"],
        **{name: settings[name] for name in ("steps", "cfg", "scheduler", "denoise")},
    }
    latent = {"width": settings["width"], "height": settings["height"], "batch_size": 1}
    prompt = {
        "1": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": settings["checkpoint"]},
        },
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": record["prompt"], "clip": ["1", 1]},
        },
        "3": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": record["negative_prompt"], "clip": ["1", 1]},
        },
        "4": {"class_type": "EmptyLatentImage", "inputs": latent},
        "5": {"class_type": "KSampler", "inputs": sampler},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {
            "class_type": "SaveImage",
            "inputs": {"images": ["6", 0], "filename_prefix": "alone"},
        },
    }
    (image,) = engine.run(prompt)["7"]["images"]
    alone = engine.base / "output" / image["filename"]
    assert difference(alone, engine.base / "output" / "batch" / record["file_name"]) <= 1


def test_sampling_is_interrupted_between_its_steps(engine):
    prompt_id = engine.queue(workflow("endless", batch_size=1, steps=10000))
    wait_for(lambda: requests.get(f"{engine.url}/queue", timeout=30).json()["queue_running"])
    time.sleep(0.5)
    requests.post(f"{engine.url}/interrupt", json={"prompt_id": prompt_id}, timeout=30)
    entry = wait_for(
        lambda: requests.get(f"{engine.url}/history/{prompt_id}", timeout=30).json().get(prompt_id)
    )
    event, data = entry["status"]["messages"][-1]
    assert (event, data["node_type"]) == ("execution_interrupted", "SamplerCustomAdvanced")


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(engine):
    prompt = workflow("none", batch_size=1)
    prompt["1"]["inputs"]["ckpt_name"] = "v1-5-pruned-emaonly.safetensors"
    answer = requests.post(f"{engine.url}/prompt", json={"prompt": prompt}, timeout=30)
    assert answer.status_code == 400
    assert "'random'" in answer.json()["node_errors"]["1"]["errors"][0]["details"]


def test_the_process_ends_in_the_middle_of_work_when_its_standard_input_does(checkpoints, tmp_path):
    process, url = start(tmp_path, checkpoints)
    Engine(tmp_path, url).queue(workflow("endless", batch_size=1, steps=10000))
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert is_gone(url)


def test_the_process_ends_when_its_parent_is_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, SERVE, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stderr is not None
    url = next(line for line in process.stderr if line.startswith("listening on ")).split()[-1]
    assert not is_gone(url)
    process.kill()
    wait_for(lambda: is_gone(url))
    process.stderr.close()
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
def test_a_polite_request_to_end_is_followed(tmp_path):
    process, url = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    process.communicate()
    assert is_gone(url)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("request_to_end", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_process_ends_at_once_while_torch_loads(tmp_path, request_to_end, code):
    """Even if somebody waits for an answer that needs torch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time\ntime.sleep(60)\n", "utf-8")
    process, url = start(tmp_path / "base", environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{url}/system_stats", timeout=0.5)
    began = time.monotonic()
    process.send_signal(request_to_end)
    assert process.wait(timeout=60) == code
    assert time.monotonic() - began < 20
    process.communicate()


GATED = """
import pathlib, time
class Gated:
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"gate": ("STRING", {})}}
    @classmethod
    def VALIDATE_INPUTS(cls, gate):
        while not pathlib.Path(gate).exists():
            time.sleep(0.01)
        return True
    def run(self, gate):
        return {}
NODE_CLASS_MAPPINGS = {"Gated": Gated}
"""


def test_other_routes_answer_while_a_prompt_is_judged(tmp_path):
    """With the node pack that the command line names."""
    (tmp_path / "pack.py").write_text(GATED, "utf-8")
    command = [sys.executable, "-m", "client", "serve", "--port", "0", "--exit-with-parent"]
    command += ["--base-directory", str(tmp_path / "base")]
    process, url = started([*command, "--node-pack", str(tmp_path / "pack.py")])
    posted: list[str] = []
    gate = tmp_path / "gate"
    prompt = {"1": {"class_type": "Gated", "inputs": {"gate": str(gate)}}}
    thread = threading.Thread(target=lambda: posted.append(Engine(tmp_path, url).queue(prompt)))
    thread.start()
    time.sleep(0.3)
    assert requests.get(f"{url}/queue", timeout=30).json()["queue_running"] == []
    listener = websocket.create_connection(f"{url.replace('http', 'ws', 1)}/ws", timeout=30)
    assert "status" in listener.recv()
    assert not posted
    gate.touch()
    thread.join()
    listener.close()
    assert len(posted) == 1
    process.communicate()
    assert process.returncode == 0


def test_an_upload_that_is_too_large_leaves_nothing_behind(engine):
    before = sorted((engine.base / "input").iterdir())
    data = io.BytesIO(bytes(101 * 1024 * 1024))
    answer = requests.post(
        f"{engine.url}/upload/image", files={"image": ("large.png", data)}, timeout=60
    )
    assert answer.status_code == 413
    assert sorted((engine.base / "input").iterdir()) == before


def test_a_prompt_of_megabytes_is_refused_in_words(engine):
    body = b'{"prompt": {"1": "' + b"x" * (8 * 1024 * 1024) + b'"}}'
    answer = requests.post(f"{engine.url}/prompt", data=body, timeout=30)
    assert answer.status_code == 413
    assert "put long texts into files in the input folder" in answer.text


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(engine):
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 12_000, 10_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    (engine.base / "input" / "bomb.png").write_bytes(png + chunk(b"IEND", b""))
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "bomb.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    prompt_id = engine.queue(prompt)
    entry = wait_for(
        lambda: requests.get(f"{engine.url}/history/{prompt_id}", timeout=30).json().get(prompt_id)
    )
    assert "more than the limit of" in entry["status"]["messages"][-1][1]["exception_message"]


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(port=port, base_directory=tmp_path)


def test_the_package_is_cheap_to_import():
    code = (
        "import sys, client.embedded as e; assert e.DEFAULT_SIZE == 64; "
        "assert not {'torch', 'aiohttp', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_server_answers_before_torch_is_there():
    heavy = "{'torch', 'diffusers', 'transformers'}"
    code = f"import sys, client.embedded.api.server; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_facts_that_the_command_line_needs():
    assert DEFAULT_CHECKPOINT == "tiny-digits"
    assert DEFAULT_SIZE == 64
    assert missing_requirements() == []

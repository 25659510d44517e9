"""Server processes that tests may kill, a workflow with a stub model, and finished folders."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

import comfy_nodes
from client.workflow.graph import parse_workflow

ROOT = Path(comfy_nodes.__file__).resolve().parent.parent
ALLOWED_FILES = {"metadata.jsonl", "README.md", "generation.json", ".synthgrid-state.json"}


class ServerProcess:
    """A real `synthgrid serve` that tests may kill and start again on the same port and folder."""

    def __init__(
        self,
        directory,
        *,
        command=(
            "-m",
            "client",
            "serve",
            "--exit-with-parent",
            "--port",
            "{port}",
            "--base-directory",
            "{directory}",
        ),
        **environment,
    ):
        self.directory = directory
        self.port = 0
        self.process = None
        self.starts = 0
        self.command = command
        self.environment = environment

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        if self.process is not None:
            self.kill()
        self.starts += 1
        log = self.directory / f"log-{self.starts}.txt"
        command = [each.format(port=self.port, directory=self.directory) for each in self.command]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT,
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                env=environment() | self.environment,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on http://\S+?:(\d+)", log.read_text(encoding="utf-8"))
            if found:
                self.port = int(found[1])
                return self
            time.sleep(0.02)
        raise AssertionError(log.read_text(encoding="utf-8"))

    def kill(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.wait()


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


def stub_server(directory, **environment):
    """The embedded engine without torch, with a stub for the model, started; see stub_engine.py."""
    directory.mkdir(parents=True, exist_ok=True)
    script = str(Path(__file__).with_name("stub_engine.py"))
    return ServerProcess(
        directory, command=(script, "{port}", "{directory}"), **environment
    ).start()


def stub_workflow(
    *,
    names=("bat", "bear", "bee"),
    per_class=8,
    batch_size=3,
    seconds=0.02,
    seed=0,
    template="a {class}",
):
    """A workflow of plan nodes, the stub for the model, and the saver."""
    graph = {
        "1": {
            "class_type": "SynthGridClassList",
            "inputs": {"classes": "\n".join(names), "path": ""},
        },
        "2": {"class_type": "SynthGridPromptTemplates", "inputs": {
            "templates": template, "negative_prompt": "", "contexts": "", "styles": ""}},
        "3": {"class_type": "SynthGridClassPromptBatcher", "inputs": {
            "classes": ["1", 0], "templates": ["2", 0],
            "images_per_class": per_class, "batch_size": batch_size,
            "plan_seed": seed, "batch_index": 0, "only": ""}},
        "4": {"class_type": "StubImages", "inputs": {"batch": ["3", 0], "seconds": seconds}},
        "5": {"class_type": "SynthGridLabelledImageSaver", "inputs": {
            "images": ["4", 0], "batch": ["3", 0], "folder": "synthgrid", "overwrite": False}},
    }  # fmt: skip
    return parse_workflow(graph, source="stub")


def read_records(root):
    """The records of a labelled folder, by index."""
    text = (root / "metadata.jsonl").read_text(encoding="utf-8")
    return sorted(
        (json.loads(line) for line in text.splitlines()), key=lambda record: record["index"]
    )


def assert_exact(root, workflow):
    """Every planned image once, every record true, nothing else in the folder."""
    plan = workflow.plan()
    found = read_records(root)
    assert [record["index"] for record in found] == list(range(len(plan)))
    for record in found:
        row = plan.row(record["index"])
        assert (record["label"], record["prompt"], record["seed"]) == (
            row.label,
            row.prompt,
            row.seed,
        )
        data = (root / record["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["sha256"]
        Image.open(io.BytesIO(data)).load()
    assert {str(path.relative_to(root).as_posix()) for path in root.glob("*/*")} == {
        r["file_name"] for r in found
    }
    files = {path.name for path in root.iterdir() if path.is_file()}
    assert {"metadata.jsonl", "README.md", "generation.json"} <= files <= ALLOWED_FILES
    assert not list(root.rglob("*.part"))

"""Time and memory that a run needs to read its folder and to plan, at large sizes; a line each.

    python benchmarks/making/folder.py [--images 100000] [--rows 1000000] [--rounds 3]
        [--folder DIR] [--only NAME ...]

resume   RunFolder.open on a finished labelled folder: every record read and held against the files
scan     LabelledFolder.scan, as nodes and trainer use it: the same, and every record kept
append   LabelledFolder.add of a hundred small images one by one, to an empty and to the full folder
plan     every row of a plan of 100 classes: one template, and four templates with banks of 50
         contexts and 20 styles

Each is measured in its own process, best of `--rounds`, wall time and CPU time; memory is the
growth of the process's peak resident set since its imports. The images are hard links to one
tiny PNG per class: a scan of a sound folder opens none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from client.folder.run_folder import RunFolder  # noqa: E402
from client.workflow.changes.options import Options, patch  # noqa: E402
from client.workflow.graph import Workflow, load_workflow  # noqa: E402
from comfy_nodes.labelset import (  # noqa: E402
    ImageRecord,
    LabelledFolder,
    encode_image,
    image_file_name,
)
from comfy_nodes.plan import ClassEntry, GenerationPlan, ImageSpec, PromptTemplates  # noqa: E402

CLASSES = tuple(ClassEntry(f"class {number:02}") for number in range(100))
SETTINGS = {
    "checkpoint": "v1-5-pruned-emaonly.safetensors",
    "sampler": "euler",
    "steps": 20,
    "cfg": 7.0,
    "width": 512,
}
BANKS = PromptTemplates(
    templates=tuple(
        f"a photo of a {{class}} {place} {{context}}, {{style}}"
        for place in ("in", "at", "near", "by")
    ),
    contexts=tuple(f"place number {number}" for number in range(50)),
    styles=tuple(f"style number {number}" for number in range(20)),
)
MIB = 2**20


def workflow_of(images: int) -> Workflow:
    """The shipped workflow for so many images of the hundred classes."""
    found = load_workflow(ROOT / "workflows" / "api" / "sd15_class_prompts.json")
    return patch(found, Options(classes=CLASSES, images_per_class=max(1, images // len(CLASSES))))


def record_of(row: ImageSpec, plan_id: str) -> ImageRecord:
    """The record that a server would return for a planned row."""
    return ImageRecord(
        file_name=image_file_name(row.label, plan_id, row.index),
        label=row.label,
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        seed=row.seed,
        index=row.index,
        plan_id=plan_id,
        template=row.template,
        settings=SETTINGS,
        sha256="0" * 64,
    )


def fill(root: Path, images: int) -> None:
    """A folder as a finished run leaves it: generation.json, metadata.jsonl, a file per record."""
    workflow = workflow_of(images)
    folder = RunFolder(root, workflow)
    plan = folder.plan
    folder.open()
    root.mkdir(parents=True, exist_ok=True)
    folder.describe({})
    for number in range(len(plan.classes)):
        record = record_of(plan.row(number), plan.plan_id)
        path = root / record.file_name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_image(Image.new("RGB", (8, 8)), record))
    with (root / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for row in plan:
            record = record_of(row, plan.plan_id)
            lines.write(record.to_json() + "\n")
            if row.index >= len(plan.classes):
                first = image_file_name(row.label, plan.plan_id, row.index % len(plan.classes))
                os.link(root / first, root / record.file_name)


def peak_bytes() -> int:
    """The largest resident set that this process ever had.

    Linux hands the parent's peak on in getrusage, so its own account is asked first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def measure(name: str, root: Path, images: int, rows: int) -> dict[str, float]:
    """Wall and CPU seconds, and memory growth in bytes, of one task; run it in its own process."""
    prepared = _PREPARED[name](root, images, rows)
    before, begun, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    count = prepared()
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"seconds": wall, "cpu": cpu, "bytes": peak_bytes() - before, "count": count}


def _resume(root: Path, images: int, rows: int) -> Callable[[], int]:
    workflow = workflow_of(images)
    folder = RunFolder(root, workflow)

    def run() -> int:
        folder.open()
        return folder.count()

    return run


def _scan(root: Path, images: int, rows: int) -> Callable[[], int]:
    folder = LabelledFolder(root)

    def run() -> int:
        folder.scan()
        return len(folder.rows)

    return run


def _append(root: Path, images: int, rows: int) -> Callable[[], int]:
    """A hundred images of this process's own plan, one call each; without scanning the folder."""
    plan = GenerationPlan((ClassEntry("appended"),), images_per_class=100)
    records = [record_of(row, f"{os.getpid():012x}") for row in plan]
    items = [(record, encode_image(Image.new("RGB", (8, 8)), record)) for record in records]
    folder = LabelledFolder(root)
    return lambda: sum(len(folder.add_all([item])) for item in items)


def _append_empty(root: Path, images: int, rows: int) -> Callable[[], int]:
    return _append(Path(tempfile.mkdtemp(dir=root.parent)), images, rows)


def _plan(templates: PromptTemplates) -> Callable[[Path, int, int], Callable[[], int]]:
    def prepare(root: Path, images: int, rows: int) -> Callable[[], int]:
        plan = GenerationPlan(CLASSES, templates, max(1, rows // len(CLASSES)))
        return lambda: sum(1 for _ in plan)

    return prepare


_PREPARED = {
    "resume": _resume,
    "scan": _scan,
    "append to an empty folder": _append_empty,
    "append to the full folder": _append,
    "plan, one template": _plan(PromptTemplates()),
    "plan, templates and banks": _plan(BANKS),
}


def in_child(name: str, root: Path, options: argparse.Namespace) -> dict[str, float]:
    """`measure` in a new process of this script."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(root)]
    command += ["--images", str(options.images), "--rows", str(options.rows)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=100_000, help="images in the folder (default: %(default)s)"
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows to plan (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="processes for each (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, help="write below this folder (default: the system's temporary one)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=sorted(_PREPARED), metavar="NAME", help="measure only these"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.folder, options.images, options.rows)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as where:
        root = Path(where) / "set"
        fill(root, options.images)
        for name in options.only or _PREPARED:
            found = [in_child(name, root, options) for _ in range(options.rounds)]
            seconds, cpu, grown = (
                min(each[key] for each in found) for key in ("seconds", "cpu", "bytes")
            )
            count = int(found[0]["count"])
            print(
                f"{name:27} {count:9,} in {seconds:8.3f} s ({cpu:.3f} s CPU)  "
                f"+{grown / MIB:6.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()

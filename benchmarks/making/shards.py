"""Tar shards of a labelled folder against plain tar, and against the folder: seconds, and the
growth of memory.

    python benchmarks/making/shards.py --quick

Writing is compared with `tarfile` putting the same folder into one tar, and reading with `tarfile`
taking that tar apart again; both only copy, while `export-data` compares every image with its
SHA-256 and every shard with the manifest. Listing is what the trainer does before it reads any
image: it hashes every image and keeps its place and record, of the folder and of the shards. All
rounds alternate and the smallest time counts. The
growth is that of the process's peak resident set, in a process of its own, for all images and for
a tenth of them: flat means that both are about equal. Waiting for the disk at the end is part of
neither.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.making.folder import MIB, peak_bytes  # noqa: E402
from client.folder.exports import shards, unpack  # noqa: E402
from client.folder.exports.source import Source  # noqa: E402
from comfy_nodes.labelset import ImageRecord, encode_image, image_file_name, sha256  # noqa: E402
from trainer.data.samples import read_labelled  # noqa: E402

CLASSES = 100
PLAN = "3f1c09b2a4de"


def fill(root: Path, images: int) -> None:
    """A labelled folder of 8 x 8 pixel images of a hundred classes, one record each."""
    root.mkdir()
    with (root / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for index in range(images):
            label = f"class {index % CLASSES:02}"
            record = ImageRecord(
                file_name=image_file_name(label, PLAN, index),
                label=label,
                prompt=f"a photo of a {label} at place {index % 50}",
                negative_prompt="blurry",
                seed=index,
                index=index,
                plan_id=PLAN,
                settings={"checkpoint": "v1-5.safetensors", "steps": 20, "width": 8, "height": 8},
            )
            image = Image.new("RGB", (8, 8), (index % 256, index // 256 % 256, 0))
            data = encode_image(image, record)
            path = root / record.file_name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            found = ImageRecord.from_dict(record.to_dict() | {"sha256": sha256(data)})
            lines.write(found.to_json() + "\n")


def pack_plain(root: Path, out: Path) -> None:
    """The folder in one tar."""
    with tarfile.open(out / "plain.tar", "w") as tar:
        tar.add(root, "set")


def pack_shards(root: Path, out: Path) -> None:
    """The folder in shards."""
    shards.write(Source(root), out)


def unpack_plain(packed: Path, out: Path) -> None:
    """The files of one tar."""
    with tarfile.open(packed / "plain.tar") as tar:
        if sys.version_info >= (3, 12):
            tar.extractall(out, filter="data")
        else:
            tar.extractall(out)


def unpack_shards(packed: Path, out: Path) -> None:
    """The labelled folder of shards."""
    unpack.unpack(packed, out)


def list_folder(root: Path, out: Path) -> None:
    """What the trainer keeps of a labelled folder."""
    read_labelled(root)


def list_shards(packed: Path, out: Path) -> None:
    """What it keeps of shards."""
    read_labelled(packed)


TASKS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path, Path], None]]] = {
    "write": (pack_plain, pack_shards),
    "read": (unpack_plain, unpack_shards),
    "list": (list_folder, list_shards),
}
_BY_NAME = {each.__name__: each for pair in TASKS.values() for each in pair}


def measure(name: str, source: Path, out: Path) -> dict[str, float]:
    """Wall seconds, and memory growth in bytes, of one task; run it in its own process."""
    out.mkdir()
    before, begun = peak_bytes(), time.perf_counter()
    _BY_NAME[name](source, out)
    return {"seconds": time.perf_counter() - begun, "bytes": peak_bytes() - before}


def in_child(name: str, source: Path, out: Path) -> dict[str, float]:
    """`measure` in a new process of this script."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--child", name, str(source), str(out)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(where: Path, images: int, rounds: int) -> dict[str, float]:
    """Prints both times and their ratio for each task; returns the growth of ours in bytes."""
    fill(where / "set", images)
    growth = {}
    for task, (plain, ours) in TASKS.items():
        found: dict[str, list[dict[str, float]]] = {plain.__name__: [], ours.__name__: []}
        for _ in range(rounds):
            for each in found:
                kind = each.partition("_")[2]
                from_set = task == "write" or kind == "folder"
                source = where / ("set" if from_set else f"packed {kind}")
                out = where / (f"packed {kind}" if task == "write" else f"again {kind}")
                found[each].append(in_child(each, source, out))
        seconds = {each: min(one["seconds"] for one in many) for each, many in found.items()}
        ratio = seconds[ours.__name__] / seconds[plain.__name__]
        least = {each: min(one["bytes"] for one in many) for each, many in found.items()}
        growth[task], rival = least[ours.__name__], "folder" if task == "list" else "tar"
        print(
            f"{task:5} {images:9,} images: {rival} {seconds[plain.__name__]:7.2f} s, shards "
            f"{seconds[ours.__name__]:7.2f} s, shards / {rival}: {ratio:.2f}, "
            f"+{least[plain.__name__] / MIB:.1f} and +{least[ours.__name__] / MIB:.1f} MiB",
            flush=True,
        )
    return growth


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=100_000, help="images in the folder (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2,000 images, one round")
    parser.add_argument(
        "--folder", type=Path, help="write below this folder (default: the system's temporary one)"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, source, out = options.child
        print(json.dumps(measure(name, Path(source), Path(out))))
        return
    images, rounds = (2000, 1) if options.quick else (options.images, options.rounds)
    for count in (max(1, images // 10), images):
        with tempfile.TemporaryDirectory(dir=options.folder) as where:
            compare(Path(where), count, rounds)


if __name__ == "__main__":
    main()

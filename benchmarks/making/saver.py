"""Images per second: SynthGrid's Labelled Image Saver compared with what ComfyUI's SaveImage does.

    python benchmarks/making/saver.py [--images 64] [--per-call 64] [--size 512] [--rounds 5]
        [--folder DIR]

Both get the same tensor, prompt and workflow, and save PNG. They take turns, and the ratio is the
median over the rounds. SaveImage's way, as in ComfyUI's nodes.py: one image after the other, Pillow
at compress_level 4, both text chunks serialized for every image, no fsync. Ours does more: a record
in every file and in metadata.jsonl, SHA-256, fsync. The images are smooth noise of every scale,
which compresses about as well as a photograph.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from comfy_nodes import graph, host, labelset  # noqa: E402
from comfy_nodes.labelset import parameters  # noqa: E402
from comfy_nodes.labelset.images import imagefile, png  # noqa: E402
from comfy_nodes.nodes import images as saver  # noqa: E402
from comfy_nodes.nodes.batcher import PromptBatch  # noqa: E402
from comfy_nodes.plan import ClassEntry, GenerationPlan  # noqa: E402

GRAPH = json.loads(
    (ROOT / "workflows" / "api" / "sd15_class_prompts.json").read_text(encoding="utf-8")
)
EDITOR = json.loads(
    (ROOT / "workflows" / "Images from class names - SynthGrid SD1.5.json").read_text(
        encoding="utf-8"
    )
)
PROMPT_TEXT, WORKFLOW_TEXT = json.dumps(GRAPH), json.dumps(EDITOR)
CORE, OURS = "SaveImage's way", "Labelled Image Saver"


def photo_like(count: int, size: int, *, seed: int = 0) -> torch.Tensor:
    """[count, size, size, 3] in 0..1: noise of every scale, fainter if finer, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    side, weight = 4, 1.0
    while side <= size:
        noise = torch.rand(count, 3, side, side, generator=generator) - 0.5
        total += weight * torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic")
        side, weight = side * 2, weight * 0.55
    return (total * 0.7 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).contiguous()


def save_as_core(images: torch.Tensor, folder: Path, *, compress_level: int) -> None:
    """What SaveImage does with each image."""
    for number, image in enumerate(images):
        pixels = np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("prompt", json.dumps(GRAPH))
        chunks.add_text("workflow", json.dumps(EDITOR))
        path = folder / f"ComfyUI_{number:05}_.png"
        Image.fromarray(pixels).save(path, pnginfo=chunks, compress_level=compress_level)


def save_as_ours(
    images: torch.Tensor, folder: Path, *, batches: Sequence[PromptBatch], compress_level: int
) -> None:
    """One call of the saver node per batch, as ComfyUI makes it."""
    host.use_output_directory(folder)
    rows = iter(images.split([len(batch.specs) for batch in batches]))
    for batch in batches:
        saver.LabelledImageSaver().save(
            next(rows),
            batch,
            "set",
            compress_level=compress_level,
            prompt=GRAPH,
            extra_pnginfo={"workflow": EDITOR},
        )


def metadata_share(
    image: torch.Tensor, batch: PromptBatch, *, rounds: int = 50
) -> tuple[float, float]:
    """What metadata and SHA-256 add to encoding, as shares of its processor time.

    Metadata is the record, parameters, graph and XMP. Its cost is measured on an 8x8 corner,
    because for whole images it is smaller than the variation between two encodings.
    """
    spec, settings = batch.specs[0], graph.generator_settings(GRAPH)
    record = saver._record(spec, batch.plan.plan_id, settings, ".png")
    whole = Image.fromarray(saver._pixels(image, record, keep_bad=False))
    corner, data = whole.crop((0, 0, 8, 8)), _encoded(whole, record)

    def best_s(work: Callable[[], object]) -> float:
        times = []
        for _ in range(rounds):
            started = time.thread_time()
            work()
            times.append(time.thread_time() - started)
        return min(times)

    encoding = best_s(lambda: _bare(whole))
    texts = best_s(lambda: _encoded(corner, record)) - best_s(lambda: _bare(corner))
    return texts / encoding, best_s(lambda: labelset.sha256(data)) / encoding


def _bare(picture: Image.Image) -> bytes:
    return png.png_bytes(np.asarray(picture), [], compress_level=4)


def _encoded(picture: Image.Image, record: labelset.ImageRecord) -> bytes:
    texts = {
        "parameters": parameters.parameters_text(record),
        "prompt": PROMPT_TEXT,
        "workflow": WORKFLOW_TEXT,
    }
    record.to_json()
    return labelset.encode_image(picture, record, imagefile.ImageFormat(), texts=texts)


def timed(
    save: Callable[[torch.Tensor, Path], None], images: torch.Tensor, where: Path
) -> tuple[float, float]:
    """(images per second, mean kB per image) of one call into an empty folder."""
    folder = Path(tempfile.mkdtemp(dir=where))
    started = time.perf_counter()
    save(images, folder)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*.png")) / len(images) / 1000
    shutil.rmtree(folder)
    return len(images) / seconds, size


def compare(
    ways: dict[str, Any], images: torch.Tensor, where: Path, rounds: int
) -> dict[str, list[float]]:
    """Images per second of each way in each round.

    The ways take turns, after one call of each that is not counted.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    sizes: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, save in ways.items():
            rate, sizes[name] = timed(save, images, where)
            if number:
                rates[name].append(rate)
    for name, each in rates.items():
        rate = f"{statistics.median(each):7.1f} images/s"
        print(f"  {name:28} {rate}   {sizes[name]:6.0f} kB per image")
    return rates


def ratio(rates: dict[str, list[float]], first: str, second: str) -> float:
    """Median over the rounds of first / second."""
    return statistics.median(a / b for a, b in zip(rates[first], rates[second], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="images per round (default: 64)")
    parser.add_argument(
        "--per-call", type=int, metavar="N", help="images per call of our saver (default: all)"
    )
    parser.add_argument(
        "--size", type=int, default=512, help="width and height in pixels (default: 512)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="calls of each way (default: 5)")
    parser.add_argument(
        "--folder", type=Path, help="write below this folder (default: the system's temporary one)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = photo_like(options.images, options.size)
    plan = GenerationPlan(
        tuple(map(ClassEntry, ("badger", "bat", "bear", "bee"))), images_per_class=options.images
    )
    size = options.per_call or options.images
    count = plan.batch_count(size)  # of the whole plan, so that no card is written in between
    batches = [
        PromptBatch(plan, plan.batch(index, size), index, count)
        for index in range(options.images // size)
    ]
    print(
        f"{options.images} images {options.size}x{options.size}, {size} per call, "
        f"{os.cpu_count()} cores, median of {options.rounds}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as where:
        for level in (4, 1):
            ours = partial(save_as_ours, batches=batches, compress_level=level)
            ways = {CORE: partial(save_as_core, compress_level=level), OURS: ours}
            print(f"compress_level {level}")
            rates = compare(ways, images, Path(where), options.rounds)
            print(f"  ratio {ratio(rates, OURS, CORE):.2f}")
    share, hashing = metadata_share(images[0], batches[0])
    print(
        f"record, graph, parameters and XMP cost {share:.1%} of encoding, SHA-256 {hashing:.1%} "
        "(one thread, compress_level 4)"
    )


if __name__ == "__main__":
    main()

"""What 20 million images take: GPU days, bytes, dollars, and what stops scaling first.

    python benchmarks/making/millions.py --images DIR [--count 20000000] [--size 256] [--sample 200]
        [--rows 2000] [--dollars-per-hour 3090=0.2 --dollars-per-hour A100=1.5]

Measured here, on one process unless it says otherwise: the bytes of the images in DIR as PNG and
JPEG, brought to --size first, with a record in each; and images/s of each step between the engine
and the disk, with images of that size. NOT measured here: the speed of a GPU. Those are published
figures, with their source, and prices are yours to give.

plan     rows of the plan
check    all that is compared before an image is saved: hash, decoding, every field of the record
save     image and record into the labelled folder with fsync, one at a time: a run on servers
save 64  the same for 64 at a time: a run on Ray
scan     what a resumed run reads first: metadata.jsonl and the folders' listings
shards   `export-data --to webdataset`
run      everything together without a model: client, one server process with a stub, HTTP, saver
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.making.client import start_server, workflow  # noqa: E402
from client.folder.exports import shards  # noqa: E402
from client.folder.exports.source import Source  # noqa: E402
from client.run.dispatch.collect import check_image  # noqa: E402
from client.run.runner import run_plan  # noqa: E402
from comfy_nodes.labelset import (  # noqa: E402
    ImageRecord,
    LabelledFolder,
    encode_image,
    image_file_name,
    sha256,
)
from comfy_nodes.labelset.images.imagefile import SUFFIXES, ImageFormat  # noqa: E402
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates  # noqa: E402

CALL = 64  # rows of a call to a Ray worker
DAY_S = 86_400
# Images/s of SD 1.5 at 512 x 512, half precision, guidance, 50 steps: 16 images x steps/s / 50,
# from the table "batch size: 16", torch nightly with compile, of "PyTorch 2.0" in the
# documentation of Hugging Face diffusers. Denoising only: neither text encoder nor VAE is in it.
PUBLISHED = {"RTX 3090": 16 * 1.91 / 50, "RTX 4090": 16 * 3.85 / 50, "A100": 16 * 4.68 / 50}


def pictures(folder: Path, size: int, most: int) -> list[Image.Image]:
    """Evenly spaced images of a folder, as RGB squares of `size` pixels."""
    paths = sorted(each for each in folder.rglob("*") if each.suffix in (".png", ".jpg", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} has no images; give a folder of PNG, JPEG or WebP files")
    found = []
    for path in paths[:: max(1, len(paths) // most)][:most]:
        with Image.open(path) as image:
            found.append(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    return found


def records(plan: GenerationPlan, size: int, suffix: str) -> Iterator[ImageRecord]:
    """A record for every row, as a server returns it, without a hash."""
    settings = {"checkpoint": "v1-5-pruned-emaonly.safetensors", "steps": 50, "cfg": 2.0,
                "sampler": "ddim", "width": size, "height": size}  # fmt: skip
    for row in plan:
        yield ImageRecord(
            file_name=image_file_name(row.label, plan.plan_id, row.index, suffix),
            label=row.label,
            prompt=row.prompt,
            negative_prompt=row.negative_prompt,
            seed=row.seed,
            index=row.index,
            plan_id=plan.plan_id,
            template=row.template,
            settings=settings,
        )


def per_s(count: int, work: Callable[[], object]) -> float:
    """How many a second, if `work` does `count`."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def measure(made: Sequence[tuple[ImageRecord, bytes]], plan: GenerationPlan) -> dict[str, float]:
    """Images/s of each step that needs no server."""
    count = len(made)

    def save_in_calls() -> None:
        other = LabelledFolder(Path(base) / "calls")
        other.root.mkdir()
        for start in range(0, count, CALL):
            other.add_all(made[start : start + CALL])

    with tempfile.TemporaryDirectory() as base:
        labelled = LabelledFolder(Path(base) / "set")
        labelled.root.mkdir()
        (Path(base) / "shards").mkdir()
        return {
            "plan": per_s(len(plan), lambda: [row.seed for row in plan]),
            "check": per_s(count, lambda: [check_image(data, record) for record, data in made]),
            "save": per_s(count, lambda: [labelled.add(record, data) for record, data in made]),
            "save 64": per_s(count, save_in_calls),
            "scan": per_s(count, LabelledFolder(labelled.root).scan),
            "shards": per_s(
                count, lambda: shards.write(Source(labelled.root), Path(base) / "shards")
            ),
        }


def measure_run(images: int) -> float:
    """Images/s of a whole run on one server whose model takes no time (8 x 8 pixel images)."""
    work = workflow(images // 16, service_s=0.0, seed=0, batch_size=16)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = start_server(stack, base)
        return per_s(images, lambda: run_plan(work, url, base / "out"))


def main() -> None:
    """Prints what was measured, then the estimate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="a folder of images from Stable Diffusion")
    add("--count", type=int, default=20_000_000)
    add("--size", type=int, default=256)
    add("--sample", type=int, default=200, help="images whose bytes are measured")
    add("--rows", type=int, default=2000, help="images of the speed tests")
    add("--dollars-per-hour", action="append", default=[], metavar="GPU=X")
    args = parser.parse_args()
    logging.getLogger("client").setLevel(logging.ERROR)

    plan = GenerationPlan(
        tuple(ClassEntry(f"class {number}") for number in range(100)),
        PromptTemplates(("a photo of a {class}",)),
        max(1, args.rows // 100),
    )
    images = pictures(args.images, args.size, args.sample)
    formats = {}
    for name in ("PNG", "JPEG"):
        how = ImageFormat(name)
        formats[name] = [
            (record, encode_image(images[number % len(images)], record, how))
            for number, record in enumerate(records(plan, args.size, SUFFIXES[name]))
        ]
    print(f"measured: bytes of {len(images)} images, {args.size} x {args.size}, record included")
    sizes = {}
    for image_format, made in formats.items():
        sizes[image_format] = statistics.fmean(len(data) for _, data in made[: len(images)])
        each, total = sizes[image_format], sizes[image_format] * args.count / 1e12
        print(f"  {image_format:4}  {each:9,.0f} bytes  x {args.count:,} = {total:.2f} TB")
    print(f"measured: images/s, one process, {args.size} x {args.size}")
    slowest = {}
    for image_format, made in formats.items():
        hashed = [(ImageRecord.from_dict(r.to_dict() | {"sha256": sha256(d)}), d) for r, d in made]
        rates = measure(hashed, plan)
        slowest[image_format] = rates["save 64"]
        print(f"  {image_format:4}  " + "  ".join(f"{k} {v:,.0f}" for k, v in rates.items()))
    print(f"  run  {measure_run(max(16, args.rows)):,.0f} images/s, one server, 8 x 8")
    prices = dict(each.split("=", 1) for each in args.dollars_per_hour)
    print("published, not measured here: SD 1.5, 512 x 512, 50 steps, guidance (images/s a GPU)")
    for gpu, rate in PUBLISHED.items():
        days = args.count / rate / DAY_S
        price = next((float(x) for name, x in prices.items() if name in gpu), None)
        cost = "" if price is None else f"  ${days * 24 * price:,.0f} at ${price:g} an hour"
        most = slowest["JPEG"] / rate
        print(
            f"  {gpu:9} {rate:.2f}  {days:,.0f} GPU days{cost}"
            f"  one writer keeps up with {most:,.0f}"
        )


if __name__ == "__main__":
    main()

"""Images per second from files to the square pixels that a model sees: SynthGrid's decoder compared
with others.

    python benchmarks/training/decode.py [--quick] [--data DIR] [--images 128] [--size 224]
        [--rounds 5]

All read the same files and give the largest centred square at the size asked for; they take turns,
and the figures are medians over the rounds. Pillow and torchvision run in one thread, image after
image. The machine's upper limit is one process per core, each running Pillow alone and returning
nothing. Without --data: smooth noise of every scale at 512x512, half of it JPEG (quality 90), half
PNG. torchvision reads no EXIF, palette or 16-bit quirks; SynthGrid does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from torchvision.io import ImageReadMode, decode_image  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

from comfy_nodes.labelset.images.to_rgb import IMAGE_SUFFIXES  # noqa: E402
from trainer.data.images import iter_pixels  # noqa: E402


def write_photos(folder: Path, count: int, *, side: int = 512) -> list[Path]:
    """Noise at every scale, fainter at finer scales, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    paths = []
    for number in range(count):
        total, scale, weight = torch.zeros(1, 3, side, side), 4, 1.0
        while scale <= side:
            noise = torch.rand(1, 3, scale, scale, generator=generator) - 0.5
            total += weight * torch.nn.functional.interpolate(
                noise, size=(side, side), mode="bicubic"
            )
            scale, weight = scale * 2, weight * 0.55
        pixels = ((total[0] * 0.7 + 0.5).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        paths.append(folder / f"{number:04}.{'jpg' if number % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def by_pillow(paths: Sequence[Path], size: int) -> None:
    """One after the other."""
    for path in paths:
        with Image.open(path) as image:
            ImageOps.fit(
                image.convert("RGB"), (size, size), method=Image.Resampling.BICUBIC
            ).tobytes()


def by_torchvision(paths: Sequence[Path], size: int) -> None:
    """torchvision.io, one after the other; two torch threads would not be one thread."""
    for path in paths:
        image = decode_image(str(path), mode=ImageReadMode.RGB)
        image = functional.center_crop(image, [min(image.shape[1:])] * 2)
        functional.resize(
            image, [size, size], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
        )


def by_synthgrid(paths: Sequence[Path], size: int) -> None:
    """As a grid does."""
    for _ in iter_pixels(paths, [size]):
        pass


def by_all_cores(pool: ProcessPoolExecutor, paths: Sequence[Path], size: int) -> None:
    """The upper limit: each process decodes a share of the files."""
    cores = os.cpu_count() or 1
    list(pool.map(by_pillow, [paths[number::cores] for number in range(cores)], [size] * cores))


def compare(
    ways: dict[str, Callable[[Sequence[Path], int], None]],
    paths: list[Path],
    size: int,
    rounds: int,
) -> None:
    """Prints the rate of each method; they take turns, after an uncounted warm-up turn."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way(paths, size)
            if number:
                rates[name].append(len(paths) / (time.perf_counter() - started))
    ours = rates["SynthGrid"]
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(ours, each, strict=True))
        print(
            f"  {name:28} {statistics.median(each):8.1f} images/s   SynthGrid is {ratio:.2f} times "
            "as fast"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="any folder with images below it (default: made on the fly)"
    )
    parser.add_argument("--images", type=int, default=128, help="how many (default: 128)")
    parser.add_argument(
        "--size", type=int, default=224, help="side of the squares in pixels (default: 224)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (default: 5)")
    parser.add_argument("--quick", action="store_true", help="16 images, 2 rounds")
    options = parser.parse_args()
    count, rounds = (16, 2) if options.quick else (options.images, options.rounds)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as where, ProcessPoolExecutor() as pool:
        if options.data is None:
            paths = write_photos(Path(where), count)
        else:
            paths = sorted(
                path for path in options.data.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
            )[:count]
        print(
            f"{len(paths)} images to {options.size}x{options.size}, {os.cpu_count()} cores, median "
            f"of {rounds}"
        )
        ways = {
            "Pillow, one thread": by_pillow,
            "torchvision.io, one thread": by_torchvision,
            "SynthGrid": by_synthgrid,
            "upper limit: all cores": lambda paths, size: by_all_cores(pool, paths, size),
        }
        compare(ways, paths, options.size, rounds)


if __name__ == "__main__":
    main()

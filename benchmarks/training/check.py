"""What `synthgrid check` costs beside the least that it must: decoding every image and one pass of
the embedder.

    python benchmarks/training/check.py [--quick] [--images 2000] [--classes 10] [--embedder lite0]

Both see the same files, photographs of noise at 256x256, half JPEG, half PNG; a tenth are the real
ones. The bare pass decodes each file to the embedder's square and embeds it, in the same threads
and batches. The check starts without a cache. Memory is what the process grows by at its peak.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from trainer.data.images import iter_pixels  # noqa: E402
from trainer.quality.checking.check import run_check  # noqa: E402
from trainer.quality.embedding.embedders import Embedder, load_embedder  # noqa: E402
from trainer.quality.images import load_made, load_real  # noqa: E402

SIDE = 256
REAL_SHARE = 0.1


def write_images(root: Path, classes: int, per_class: int, *, seed: int) -> Path:
    """Class folders of coloured noise at several scales; each class has a colour of its own."""
    random = np.random.RandomState(seed)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        tint = np.random.RandomState(label).randint(40, 216, 3)
        for number in range(per_class):
            total = np.zeros((SIDE, SIDE, 3)) + tint
            for scale in (4, 16, 64, SIDE):
                noise = random.randint(0, 256, (scale, scale, 3), dtype=np.uint8)
                large = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                total += (np.asarray(large) - 128.0) * (0.7 if scale == 4 else 0.2)
            image = Image.fromarray(total.clip(0, 255).astype(np.uint8))
            image.save(folder / f"{number:05}.{'jpg' if number % 2 else 'png'}", quality=90)
    return root


def bare_pass(files: list[Path], embedder: Embedder) -> float:
    """Seconds to decode and embed every file."""
    started = time.perf_counter()
    for chunk in iter_pixels(files, [embedder.size_px]):
        embedder.embed(torch.from_numpy(chunk[embedder.size_px]).permute(0, 3, 1, 2))
    return time.perf_counter() - started


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="120 images: that it runs, no figures")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--embedder", default="lite0")
    parser.add_argument("--rounds", type=int, default=2, help="of which the quickest counts")
    options = parser.parse_args()
    count = 120 if options.quick else options.images
    classes = 4 if options.quick else options.classes
    real_count = max(3, int(REAL_SHARE * count / classes))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        real = load_real(write_images(root / "real", classes, real_count, seed=1))
        made_root = write_images(root / "made", classes, count // classes - real_count, seed=2)
        embedder = load_embedder(options.embedder, real=real.train)
        made = load_made(made_root, real.classes)
        files = [each.path for each in (*real.train, *made.samples)]
        embedder.embed(torch.zeros(16, 3, embedder.size_px, embedder.size_px, dtype=torch.uint8))
        bare: list[float] = []
        whole: list[float] = []
        before = 0.0
        for _ in range(1 if options.quick else options.rounds):
            bare.append(bare_pass(files, embedder))
            before = before or peak_mb()
            started = time.perf_counter()
            run_check(real, made, embedder)
            whole.append(time.perf_counter() - started)
            shutil.rmtree(root / "made.quality")
        print(f"{len(files)} images, {classes} classes, {embedder.name}, {os.cpu_count()} cores")
        print(f"bare pass    {min(bare):8.1f} s  {len(files) / min(bare):7.1f} images/s")
        print(f"check        {min(whole):8.1f} s  {len(files) / min(whole):7.1f} images/s")
        print(f"check / bare pass: {min(whole) / min(bare):.2f} (the goal is 1.20)")
        print(f"memory beyond the bare pass: {peak_mb() - before:.0f} MB at the peak")


if __name__ == "__main__":
    main()

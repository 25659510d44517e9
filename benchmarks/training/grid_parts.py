"""Where the time of a grid goes: 90 classes of 30 real and 30 synthetic images, two models.

    python benchmarks/training/grid_parts.py [--classes N] [--seeds N] [--models NAME,...]
        [--size PX] [--updates N] [--devices D,...]

The images are random blots of a colour per class, JPEG of 256 px, with 10 real test images a class;
arms are real and add:1 under the recipe `modern`, with equal updates. Each part is timed without
the parts inside it. A frozen backbone without installed weights is left untrained.

--updates shortens the training of the networks that are trained at all; the other parts do not
depend on it. With --devices cuda:0,cuda:0 only the parts outside of the trainings are timed.

Measured on one thread of a busy machine: `--models cnn,lite0 --size 64 --updates 50 --seeds 2`, so
4 trainings of each model, 695 s.

    fit heads (lite0)         527 s   75.9%
    decode, features           54 s    7.7%   once for the grid
    training accuracy          42 s    6.1%
    updates (cnn)              38 s    5.5%   200 of them; the recipe asks for 5,063 a training
    predict                     9 s    1.3%
    search for leaks            7 s    1.1%
    read the runs, mistakes     6 s    0.9%
    everything else            11 s    1.5%

So hardly anything is lost between trainings, and a frozen row is mostly logistic regression: on
2,700 rows of 1,280 features, 6 s of CPU time for choosing its strength and 11 s for the fit. Seeds
that see the same images in the same order, as those of the baseline do without --redraw, have
shared the fit since then: 5 fits on 900 rows of 30 classes take 0.76 of the CPU time, with the
same numbers. No GPU was at hand.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import trainer.grid.grid as grid_module  # noqa: E402
import trainer.report as report_module  # noqa: E402
import trainer.training.run as run_module  # noqa: E402
from trainer.config import GridConfig  # noqa: E402
from trainer.training import engine  # noqa: E402

PX, BLOTS, TEST_IMAGES = 256, 16, 10
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "read the folders": ((grid_module, "load_dataset"),),
    "search for leaks": ((grid_module, "remembered_leaks"),),
    "contact sheet": ((grid_module, "contact_sheet"),),
    "cost of a model in use": ((grid_module, "measured_cost"),),
    "decode, features": ((grid_module, "prepare_inputs"),),
    "build networks": ((run_module, "new_network"),),
    "updates": ((engine._Training, "run"),),
    "fit heads": ((engine, "fit_features"),),
    "training accuracy": ((engine, "accuracy_of"),),
    "predict": ((run_module, "predict"),),
    "scores and files": (
        (run_module, "classification_metrics"),
        (run_module, "_predictions_csv"),
        (run_module, "_training_images_csv"),
        (run_module, "save"),
        (grid_module, "write_run"),
    ),
    "read the runs, mistakes": ((grid_module, "read_grid"), (grid_module, "write_mistakes")),
    "statistics and report": ((report_module, "write_report"),),
}


class Clock:
    """Seconds by part; a part that runs inside another one is not counted twice."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._inside = [0.0]  # seconds of the parts within each part that is running

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                self.seconds[part] += took - self._inside.pop()
                self._inside[-1] += took

        return wrapped


def write_images(folder: Path, classes: int) -> None:
    """real/train, real/test and synthetic with their class folders."""
    random = np.random.default_rng(0)
    counts = {"real/train": 30, "real/test": TEST_IMAGES, "synthetic": 30}
    for part, count in counts.items():
        for number in range(classes):
            home = folder / part / f"class{number:03}"
            home.mkdir(parents=True)
            colour = np.random.default_rng(number).integers(0, 256, 3)
            for index in range(count):
                noise = random.integers(-60, 60, (BLOTS, BLOTS, 3)) + colour
                blots = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
                blots.resize((PX, PX), Image.Resampling.BICUBIC).save(home / f"{index}.jpg")


def main() -> None:
    """Prints a line per part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=90)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default="cnn,resnet50", metavar="NAME,...")
    parser.add_argument("--size", type=int, metavar="PX", help="default: each model's own")
    parser.add_argument("--updates", type=int, metavar="N", help="default: the recipe's")
    parser.add_argument("--devices", default="", metavar="D,...")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    logging.disable(logging.WARNING)  # untrained weights; random images
    clock = Clock()
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, clock.timed(part, getattr(owner, name)))
    with tempfile.TemporaryDirectory() as where:
        write_images(Path(where), options.classes)
        started = time.perf_counter()
        config = GridConfig(
            f"{where}/real",
            f"{where}/runs",
            f"{where}/synthetic",
            models=tuple(options.models.split(",")),
            arms=("real", "add:1"),
            budgets=("updates",),
            seeds=options.seeds,
            updates=options.updates,
            image_size_px=options.size,
            allow_untrained=True,
            devices=tuple(filter(None, options.devices.split(","))),
        )
        failed = grid_module.run_grid(config).failed()
        report_module.write_report(Path(config.out))
        whole = time.perf_counter() - started
    if failed:
        sys.exit(f"{len(failed)} runs failed: {failed[0].error}")
    print(f"{whole:.1f} s, {torch.get_num_threads()} threads")
    for part, seconds in {**clock.seconds, "rest": whole - sum(clock.seconds.values())}.items():
        print(f"{part:24} {seconds:8.2f} s {100 * seconds / whole:5.1f}%")


if __name__ == "__main__":
    main()

"""Images per second in training, with each kind of augmentation over without any.

    python benchmarks/training/augmentation.py [--size PX ...] [--threads N]

The small CNN on random pixels in memory, batches of 32, the best of three rounds in which the kinds
take turns. 1.0 is no cost; the goal is at least 0.75. Beside other work on the same cores the
ratios are noise.

Measured in CPU time, one thread, since that machine was busy:

    px  images/s without  standard  crop  trivial  rand  mixup  cutmix
    32              1854      0.97  0.95     0.87  0.82   1.00    0.99
    64               554      0.97  0.93     0.93  0.91   1.02    0.99
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402

from trainer.arms import AUGMENTATIONS, MIXES  # noqa: E402
from trainer.config import TrainingConfig  # noqa: E402
from trainer.models.cnn import build_cnn  # noqa: E402
from trainer.training.engine import Standardise, fit  # noqa: E402
from trainer.training.fits import LabelledTensors  # noqa: E402

IMAGES, CLASSES, UPDATES, ROUNDS = 512, 10, 60, 3


def seconds(pixels: torch.Tensor, config: TrainingConfig) -> float:
    """How long a training takes."""
    rows, labels = torch.arange(IMAGES), torch.arange(IMAGES) % CLASSES
    scale = Standardise(torch.tensor(127.0), torch.tensor(64.0))
    network = nn.Sequential(scale, build_cnn(CLASSES, pixels.shape[-1]))
    started = time.perf_counter()
    fit(
        network,
        pixels,
        train=LabelledTensors(rows, labels),
        validation=LabelledTensors(rows[:0], labels[:0]),
        config=config,
        seed=0,
        device=torch.device("cpu"),
    )
    return time.perf_counter() - started


def main() -> None:
    """Prints a line per size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64], metavar="PX")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # random labels are not learned
    torch.set_num_threads(options.threads)
    for size in options.size:
        pixels = torch.randint(0, 256, (IMAGES, 3, size, size), dtype=torch.uint8)
        plain = TrainingConfig(updates=UPDATES, keep="last", optimiser="adamw")
        kinds = {kind: TrainingConfig(**{**vars(plain), "augment": kind}) for kind in AUGMENTATIONS}
        kinds |= {mix: TrainingConfig(**{**vars(plain), mix: 1.0}) for mix in MIXES}
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, config in kinds.items():
                taken[kind].append(seconds(pixels, config))
        base = min(taken["none"])
        shares = ", ".join(f"{kind} {base / min(each):.2f}" for kind, each in taken.items())
        print(f"{size} px, {UPDATES * plain.batch_size / base:.0f} images/s without: {shares}")


if __name__ == "__main__":
    main()

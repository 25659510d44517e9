"""Do this checkpoint's images help a small classifier? A quick check before using the trainer.

    python -m tools.tiny_digits.gain --checkpoint client/embedded/checkpoint/tiny-digits \
        --data data/digits

Five real digits per class, with and without 30 synthetic ones per class, tested on the 300 real
test digits; five seeds, each with its own real and synthetic digits. Takes about three minutes on
two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .autoencoder import to_tensor
from .fidelity import DEFAULT_CFG, digit_image
from .images import Digit, read_digits
from .sampling import load_checkpoint, sample

Labelled = tuple[torch.Tensor, torch.Tensor]


def small_cnn() -> nn.Sequential:
    """[B,3,64,64] to [B,10]; 30,000 parameters."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 48)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *layers, nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 16, 10)
    )


def accuracy(
    train: Labelled, test: Labelled, *, seed: int, updates: int = 300, batch: int = 32
) -> float:
    """The share of `test` that a CNN classifies correctly after `updates` steps on `train`."""
    torch.manual_seed(seed)
    model = small_cnn()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        rows = torch.randint(len(train[0]), (batch,))
        loss = nn.functional.cross_entropy(model(train[0][rows]), train[1][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return (model.eval()(test[0]).argmax(1) == test[1]).float().mean().item()


def compare(
    checkpoint: Path, data: Path, *, seeds: int, cfg: float, real: int = 5, synthetic: int = 30
) -> dict[str, list[float]]:
    """Accuracies in percent, one per seed: real, synthetic, both, and 30 real per class."""
    parts = load_checkpoint(checkpoint)
    test, train = read_digits(data / "test"), read_digits(data / "train")
    names = ("real", "synthetic", "real + synthetic", "30 real")
    result: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(seeds):
        chosen = _few(train, real, seed)
        labels = [digit for digit in range(10) for _ in range(synthetic)]
        prompts = [f"a photo of a {label}" for label in labels]
        first = 10_000 + 1_000 * seed
        made = (
            to_tensor(sample(parts, prompts, range(first, first + len(labels)), cfg=cfg)),
            torch.tensor(labels),
        )
        both = torch.cat([chosen[0], made[0]]), torch.cat([chosen[1], made[1]])
        for name, data_set in zip(result, (chosen, made, both, _few(train, 30, seed)), strict=True):
            result[name].append(round(100 * accuracy(data_set, _few(test, 30, 0), seed=seed), 1))
    return result


def _few(digits: list[Digit], per_class: int, seed: int) -> Labelled:
    order = np.random.RandomState(seed).permutation(len(digits))
    chosen = [
        digits[at]
        for label in range(10)
        for at in [i for i in order if digits[i].label == label][:per_class]
    ]
    images = np.stack([digit_image(digit) for digit in chosen])
    return to_tensor(images), torch.tensor([digit.label for digit in chosen])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny_digits.gain", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the demo's folder, with 30 images per class in train/ and test/",
    )
    parser.add_argument("--cfg", type=float, default=DEFAULT_CFG)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    result = compare(options.checkpoint, options.data, seeds=options.seeds, cfg=options.cfg)
    for name, scores in result.items():
        print(f"{name}: {np.mean(scores):.1f} +- {np.std(scores):.1f} {json.dumps(scores)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rotated and mirrored copies of training images, a comparison that costs nothing.

These are the seven ways to turn or mirror a square, as in Paulsen et al., Figure 7. Copies are made
from decoded square pixels, so they are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainer.data.samples import Sample

COPY = "copy"
TURNS = ("rotate90", "mirror", "rotate180", "flip", "rotate270", "transpose", "transverse")


def turned(pixels: np.ndarray, turn: str) -> np.ndarray:
    """One image's pixels [H,W,C], H equal to W, turned anticlockwise or mirrored; "" leaves them as
    they are."""
    if not turn:
        return pixels
    if turn.startswith("rotate"):
        return np.rot90(pixels, int(turn.removeprefix("rotate")) // 90)
    mirrored = {"mirror": np.fliplr, "flip": np.flipud}
    if turn in mirrored:
        return mirrored[turn](pixels)
    transposed = pixels.transpose(1, 0, 2)
    return transposed if turn == "transpose" else np.rot90(transposed, 2)


def copies_of(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` different copies: each image once before any a second time, with all kinds of turns
    in each round.

    Each image has seven. A longer list starts with the shorter ones.
    """
    found = []
    for number in range(count):
        turn_round, position = divmod(number, len(samples))
        sample, turn = samples[position], TURNS[(position + turn_round) % len(TURNS)]
        # It needs its own hash, since inputs are found by hash.
        digest = hashlib.sha256(f"{sample.sha256}#{turn}".encode()).hexdigest()
        found.append(
            replace(sample, file=f"{sample.file}#{turn}", sha256=digest, source=COPY, turn=turn)
        )
    return found

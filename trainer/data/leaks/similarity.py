"""Which images of two sets show the same picture: a perceptual hash proposes, edges confirm.

An image is a grey thumbnail of 32x32 pixels, whatever its shape, so that re-encoding, resizing and
stretching make little difference. Its hash is the signs of 63 low DCT frequencies (as pHash; Zauner
2010, section 3.2.1). A hash does not survive cropping, so each image is also hashed through five
windows of 30x30 pixels, mirrored and not. On small photographs hashes alone give false alarms; what
decides is the correlation of the two thumbnails' gradients at the best alignment, which a blue sky
with a dot in the middle does not fool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THUMB_PX = 32
HASH_DISTANCE = 12  # of 63 bits: finds 98% of random 90% crops; proposes one chance pair in 70,000
# Edge correlation; on CIFAR-10 pairs of the same photograph are above, chance pairs below 0.45.
SAME_PICTURE = 0.70
_HASH_SIZE = 8
# Side at which edges are compared; smooths over JPEG blocks and half-pixel shifts.
_COMPARED_PX = 24
_PROMISING = 0.30  # edge correlation at a rough alignment, below which no fine one is tried
_FLAT = 2.0  # standard deviation in grey levels below which a thumbnail is blank
_BLOCK = 64  # rows whose distances to everything fit the processor's cache
_CHUNK = 2048  # pairs aligned at once
_PAIRS_LOOKED_AT = 400
_STANDARD_DEVIATIONS = 5.0
_MAD_TO_STANDARD_DEVIATION = 1.4826


@dataclass(frozen=True)
class Window:
    """A square part of a thumbnail, in pixels from its left upper corner."""

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class Match:
    """Rows of the first and the second set that show the same picture; `correlation` is at most
    1."""

    first: int
    second: int
    mirrored: bool
    correlation: float


WHOLE = Window(0, 0, THUMB_PX)
_CROPS = tuple(Window(x, y, 30) for x, y in ((0, 0), (2, 0), (0, 2), (2, 2), (1, 1)))
_ROUGH = (WHOLE, *_CROPS)
_FINE = tuple(
    Window(x, y, side)
    for side in (32, 30, 28)
    for x in range(THUMB_PX + 1 - side)
    for y in range(THUMB_PX + 1 - side)
)


def find_matches(
    first: np.ndarray, second: np.ndarray, *, threshold: float = SAME_PICTURE
) -> list[Match]:
    """Every pair of the two sets (uint8 [N,32,32]) with an edge correlation of at least
    `threshold`, best first.

    Time grows with N1 x N2, in blocks of matrix products: 0.6 s of one core for 2,700 x 2,700
    thumbnails, 8 s for 10,000 x 10,000, 45 s for 50,000 x 10,000. An image without any detail
    matches nothing.
    """
    mirror = second[:, :, ::-1]
    pairs = {False: proposed_pairs(first, second), True: proposed_pairs(first, mirror)}
    return _matches(first, second, pairs, threshold)


def find_matches_within(thumbs: np.ndarray, *, threshold: float = SAME_PICTURE) -> list[Match]:
    """What `find_matches` finds in a set and itself, without an image's match with itself, and each
    pair once, in two thirds of the time."""
    pairs = {
        False: _once(_pairs_of(thumbs, thumbs, both_ways=False)),
        True: _once(proposed_pairs(thumbs, thumbs[:, :, ::-1])),
    }
    return _matches(thumbs, thumbs, pairs, threshold)


def _once(pairs: np.ndarray) -> np.ndarray:
    """Each pair of different rows once, the smaller first."""
    ordered = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(ordered, axis=0)


def _matches(
    first: np.ndarray, second: np.ndarray, proposed: Mapping[bool, np.ndarray], threshold: float
) -> list[Match]:
    """Those of the proposed pairs, mirrored or not, whose edges correlate."""
    best: dict[tuple[int, int], Match] = {}
    for mirrored, pairs in proposed.items():
        other = second[:, :, ::-1] if mirrored else second
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            chunk = chunk[
                edge_correlation(first[chunk[:, 0]], other[chunk[:, 1]], windows=_ROUGH)
                >= _PROMISING
            ]
            values = edge_correlation(first[chunk[:, 0]], other[chunk[:, 1]])
            for (row, column), value in zip(chunk.tolist(), values.tolist(), strict=True):
                known = best.get((row, column))
                if value >= threshold and (known is None or value > known.correlation):
                    best[row, column] = Match(row, column, mirrored, min(value, 1.0))
    return sorted(best.values(), key=lambda match: (-match.correlation, match.first, match.second))


def proposed_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairs of rows whose hashes are near, whole against whole or against a window of either: int64
    [P,2], sorted."""
    return _pairs_of(first, second, both_ways=True)


def _pairs_of(first: np.ndarray, second: np.ndarray, *, both_ways: bool) -> np.ndarray:
    """`proposed_pairs`; without `both_ways` only windows of the second set are looked at, which for
    a set and itself leaves out the same pairs the other way round."""
    rows, columns = (np.flatnonzero(each.std(axis=(1, 2)) >= _FLAT) for each in (first, second))
    first, second = first[rows], second[columns]
    found: list[np.ndarray] = []
    whole = hash_signs(first), hash_signs(second)
    for window in _ROUGH:
        found += _near(whole[0], whole[1] if window == WHOLE else hash_signs(second, window))
        if window != WHOLE and both_ways:
            found += _near(hash_signs(first, window), whole[1])
    pairs = np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)
    return np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], axis=1)


def hash_signs(thumbs: np.ndarray, window: Window = WHOLE) -> np.ndarray:
    """The perceptual hash of each thumbnail as float32 [N,63] of -1 and 1: a matrix product then
    counts equal bits."""
    part = thumbs[:, window.y : window.y + window.side, window.x : window.x + window.side].astype(
        np.float32
    )
    pixel = np.arange(window.side)
    basis = np.cos(
        np.pi * np.arange(_HASH_SIZE)[:, None] * (2 * pixel + 1) / (2 * window.side)
    ).astype(np.float32)
    # Without the first, the brightness.
    frequencies = (basis @ part @ basis.T).reshape(len(thumbs), _HASH_SIZE**2)[:, 1:]
    return np.where(
        frequencies > np.median(frequencies, axis=1, keepdims=True), np.float32(1), np.float32(-1)
    )


def _near(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """Index pairs whose hashes differ in at most HASH_DISTANCE bits."""
    least = first.shape[1] - 2 * HASH_DISTANCE
    for start in range(0, len(first), _BLOCK):
        hits = np.flatnonzero(first[start : start + _BLOCK] @ second.T >= least)
        if len(hits):
            yield np.stack([start + hits // len(second), hits % len(second)], axis=1)


def edge_correlation(
    first: np.ndarray, second: np.ndarray, *, windows: Sequence[Window] = _FINE
) -> np.ndarray:
    """Pair by pair, the highest correlation of gradients over all alignments of one whole with a
    window of the other.

    Both are uint8 [P,32,32]; the result is float32 [P] in -1..1, and 0 if an image has no edges.
    """
    best = np.full(len(first), -1.0, dtype=np.float32)
    if not len(first):
        return best
    one, two = first.astype(np.float32), second.astype(np.float32)
    whole_one, whole_two = _unit_edges(one, WHOLE), _unit_edges(two, WHOLE)
    for window in windows:
        np.maximum(best, np.einsum("pk,pk->p", _unit_edges(one, window), whole_two), out=best)
        if window != WHOLE:
            np.maximum(best, np.einsum("pk,pk->p", whole_one, _unit_edges(two, window)), out=best)
    return best


def _unit_edges(thumbs: np.ndarray, window: Window) -> np.ndarray:
    """Gradients in x and y of a window scaled to 24x24, as vectors of length 1."""
    part = _sampling(window.y, window.side) @ thumbs @ _sampling(window.x, window.side).T
    across, down = np.diff(part, axis=2)[:, 1:, :], np.diff(part, axis=1)[:, :, 1:]
    edges = np.concatenate([across.reshape(len(part), -1), down.reshape(len(part), -1)], axis=1)
    length = np.sqrt(np.einsum("pk,pk->p", edges, edges))
    return edges / np.maximum(length, 1e-3)[:, None]


def _sampling(start: int, side: int) -> np.ndarray:
    """The matrix [24,32] that averages pixels start..start+side into 24 equal steps."""
    edge = np.linspace(start, start + side, _COMPARED_PX + 1)
    pixel = np.arange(THUMB_PX)
    overlap = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * _COMPARED_PX / side).astype(np.float32)


def same_picture_threshold(
    first: np.ndarray,
    second: np.ndarray,
    first_labels: Sequence[str],
    second_labels: Sequence[str],
) -> float:
    """The edge correlation above which two images of these sets (uint8 [N,32,32]) are the same
    picture.

    Photographs of different things hardly correlate. Drawings do, digits most: where even images of
    different classes come near SAME_PICTURE, the threshold is what images of one class reach by
    chance. (Not otherwise: frames of one video in each class would raise it above their own
    correlation.)
    """
    random = np.random.RandomState(0)
    rows, columns = (
        random.randint(0, len(part), 20 * _PAIRS_LOOKED_AT) for part in (first, second)
    )
    same_class = np.asarray(first_labels)[rows] == np.asarray(second_labels)[columns]
    high = {
        same: _chance_level(first, second, rows[same_class == same], columns[same_class == same])
        for same in (False, True)
    }
    return max(SAME_PICTURE, high[True]) if high[False] > SAME_PICTURE else SAME_PICTURE


def _chance_level(
    first: np.ndarray, second: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> float:
    """Five standard deviations above the mean correlation of these pairs, in Fisher's z.

    Median and median absolute deviation are used, so that true duplicates among the pairs do not
    matter. About one chance pair in three million lies above.
    """
    if not len(rows):
        return 0.0
    rows, columns = rows[:_PAIRS_LOOKED_AT], columns[:_PAIRS_LOOKED_AT]
    # Small sets draw the same pair often.
    pairs, drawn = np.unique(rows * len(second) + columns, return_inverse=True)
    rows, columns = np.divmod(pairs, len(second))
    correlation = edge_correlation(first[rows], second[columns])[drawn]
    z = np.arctanh(np.clip(correlation, -0.999, 0.999))
    spread = _MAD_TO_STANDARD_DEVIATION * np.median(np.abs(z - np.median(z)))
    return float(np.tanh(np.median(z) + _STANDARD_DEVIATIONS * spread))

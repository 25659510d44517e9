"""Synthetic images that are another image over again, or hardly an image at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.leaks.similarity import find_matches, find_matches_within, same_picture_threshold
from trainer.data.samples import Sample
from trainer.quality.embedding.features import Seen

_LEAST_RANGE = 16.0  # of 255, between the darkest and the lightest pixel: our choice
_LEAST_DEVIATION = 2.0  # in grey levels


@dataclass(frozen=True)
class Copy:
    """Image `row` shows the same picture as `of`, a sample of `part`: train, test or synthetic."""

    row: int
    of: Sample
    part: str
    correlation: float


def find_copies(
    made: Sequence[Sample],
    seen: Seen,
    *,
    train: tuple[Sequence[Sample], Seen],
    test: tuple[Sequence[Sample], Seen],
) -> dict[int, Copy]:
    """The best match of each synthetic image that is a copy: of a test image, a training image, or
    an earlier synthetic one, in this order. `seen` has the thumbnails."""
    labels = [each.label for each in made]
    threshold = same_picture_threshold(
        train[1].thumbs, seen.thumbs, [each.label for each in train[0]], labels
    )
    found: dict[int, Copy] = {}
    for part, (samples, theirs) in (("test", test), ("train", train)):
        if len(samples):
            for match in find_matches(theirs.thumbs, seen.thumbs, threshold=threshold):
                copy = Copy(match.second, samples[match.first], part, match.correlation)
                found.setdefault(match.second, copy)
    for match in find_matches_within(seen.thumbs, threshold=threshold):
        if match.first not in found:
            copy = Copy(match.second, made[match.first], "synthetic", match.correlation)
            found.setdefault(match.second, copy)
    return found


def blank_reasons(seen: Seen) -> dict[int, str]:
    """Why an image is hardly one, by row: black, of one colour, or with almost no contrast."""
    found = {}
    for row, (low, high, deviation) in enumerate(seen.range.tolist()):
        if high - low < _LEAST_RANGE or deviation < _LEAST_DEVIATION:
            found[row] = f"its pixels lie between {low:.0f} and {high:.0f}" + (
                ", as after a NaN" if high == 0 else f", deviation {deviation:.1f}"
            )
    return found

"""Sets of images that are compared: one pipeline for all of them, one cache of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from comfy_nodes.labelset.quality.verdicts import quality_folder
from trainer.data.samples import Sample
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.embedding.features import common_size, see
from trainer.quality.images import MadeImages, RealImages
from trainer.quality.probabilities import compressed


@dataclass(frozen=True)
class LabelledFeatures:
    """`features` [n,D] and `labels` int64 [n], numbers of classes."""

    features: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> LabelledFeatures:
        """These rows."""
        return LabelledFeatures(self.features[rows], self.labels[rows])

    def counts(self, classes: int) -> np.ndarray:
        """How many rows each of so many classes has, int64 [classes]."""
        return np.bincount(self.labels, minlength=classes)

    def drawn(self, per_class: Sequence[int] | np.ndarray, seed: int) -> LabelledFeatures:
        """At most so many rows of each class, drawn at random."""
        random = np.random.default_rng(seed)
        rows = [
            random.permutation(np.flatnonzero(self.labels == label))[:count]
            for label, count in enumerate(per_class)
        ]
        return self.take(np.sort(np.concatenate(rows)))


@dataclass(frozen=True)
class SeenSets:
    """All images of a comparison. `test` is empty without test images; `common_px` is the side in
    pixels to which all images were reduced; `thumbs` are the thumbnails of the training images,
    under the name "", and of each synthetic set."""

    classes: tuple[str, ...]
    train: LabelledFeatures
    test: LabelledFeatures
    made: Mapping[str, LabelledFeatures]
    common_px: int
    thumbs: Mapping[str, np.ndarray] = field(default_factory=dict)

    def only(self, kept: Sequence[int]) -> SeenSets:
        """The sets without the other classes, whose numbers change, and without thumbnails."""
        new = np.full(len(self.classes), -1)
        new[list(kept)] = np.arange(len(kept))

        def part(rows: LabelledFeatures) -> LabelledFeatures:
            chosen = np.flatnonzero(new[rows.labels] >= 0)
            return LabelledFeatures(rows.features[chosen], new[rows.labels[chosen]])

        return SeenSets(
            tuple(self.classes[label] for label in kept),
            part(self.train),
            part(self.test),
            {name: part(rows) for name, rows in self.made.items()},
            self.common_px,
        )


def see_sets(
    real: RealImages,
    made: Mapping[str, MadeImages],
    embedder: Embedder,
    *,
    cache: Path | None = None,
) -> SeenSets:
    """The features of real and synthetic images, kept in the folder `cache`, by default beside the
    first synthetic folder.

    Raises:
        DataError: an image cannot be decoded.
    """
    cache = cache or quality_folder(next(iter(made.values())).root) / "features"
    common_px = common_size(
        [real.train, real.test, *(each.samples for each in made.values())], embedder
    )
    thumbs: dict[str, np.ndarray] = {}

    def seen(name: str, samples: Sequence[Sample], what: str) -> LabelledFeatures:
        labels = np.array([real.classes.index(each.label) for each in samples], dtype=np.int64)
        if not len(samples):
            return LabelledFeatures(np.zeros((0, 1), np.float32), labels)
        found = see(samples, embedder, common_px=common_px, cache=cache, what=f"seeing {what}")
        thumbs[name] = found.thumbs
        return LabelledFeatures(found.features, labels)

    test = seen("", real.test, "real test images")
    train = seen("", real.train, "real training images")
    others = {name: seen(name, each.samples, name) for name, each in made.items()}
    return SeenSets(real.classes, train, test, others, common_px, thumbs)


def compressed_together(*sets: LabelledFeatures) -> list[LabelledFeatures]:
    """The sets in the coordinates in which heads are fitted; see `compressed`."""
    filled = [each for each in sets if len(each)]
    values = compressed(np.concatenate([each.features for each in filled]))
    ends = np.cumsum([len(each) for each in filled])[:-1]
    parts = iter(np.split(values, ends))
    return [LabelledFeatures(next(parts), each.labels) if len(each) else each for each in sets]

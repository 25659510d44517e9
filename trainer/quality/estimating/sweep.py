"""Settings of a generator compared by samples of one plan: change, distance, agreement, speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.quality.distances.distance import Comparison, compare
from trainer.quality.distances.fidelity import Share
from trainer.quality.distances.mmd import Distance
from trainer.quality.embedding.sets import SeenSets
from trainer.quality.estimating.cost import measured_speed
from trainer.quality.estimating.estimate import EstimateConfig, Point, derived_pairs, estimate
from trainer.quality.images import MadeImages, RealImages


@dataclass(frozen=True)
class Judged:
    """One setting. `best` where no other is better in something and as good in the rest, by what
    was measured; intervals say how sure that is. `images_per_s` is None if the run left none."""

    name: str
    images: int
    verdict: str
    last: Point
    distance: Distance
    agreement: Share
    images_per_s: float | None
    best: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(
    real: RealImages,
    made: Mapping[str, MadeImages],
    sets: SeenSets,
    config: EstimateConfig,
    *,
    embedder: str,
    on_setting: Callable[[str], None] = lambda name: None,
) -> tuple[list[Judged], Comparison]:
    """All settings, the largest change first, and their distances. What a class has least of in any
    of them limits k in all.

    Raises:
        DataError: a class has too few real or synthetic images; it names the setting.
    """
    compared = compare(sets, embedder=embedder, seed=config.seed)
    against = {each.name: each for each in compared.sources}
    fewest = min(int(each.counts(len(real.classes)).min()) for each in sets.made.values())
    config = replace(config, ks=tuple(k for k in config.ks if k <= fewest) or (max(1, fewest),))
    train: Sequence[Sample] = real.train
    found = []
    for name, images in made.items():
        try:
            gained = estimate(
                train,
                sets.train,
                sets.made[name],
                config,
                classes=real.classes,
                derived=derived_pairs(real, images, (sets.thumbs[""], sets.thumbs[name])),
            )
        except DataError as error:
            raise DataError(f"'{name}': {error}") from error
        speed, _ = measured_speed(images.root)
        found.append(
            Judged(
                name,
                len(images.samples),
                gained.verdict,
                gained.last,
                against[name].distance,
                against[name].agreement,
                speed,
            )
        )
        on_setting(name)
    found.sort(key=lambda each: -each.last.gain.value)
    front = pareto(_merits(found))
    return [
        Judged(**vars(each) | {"best": best}) for each, best in zip(found, front, strict=True)
    ], compared


def _merits(found: Sequence[Judged]) -> np.ndarray:
    """[settings, merits], larger is better; without speed where that of any is unknown."""
    rows = [[each.last.gain.value, -each.distance.value, each.agreement.value] for each in found]
    if all(each.images_per_s is not None for each in found):
        rows = [[*row, each.images_per_s or 0.0] for row, each in zip(rows, found, strict=True)]
    return np.array(rows)


def pareto(merits: np.ndarray) -> list[bool]:
    """Which rows of [n,m] no other row beats: as large everywhere, and larger somewhere."""
    return [
        not bool(((merits >= row).all(axis=1) & (merits > row).any(axis=1)).any()) for row in merits
    ]

"""What synthetic images add to a head, measured on real images that are held out, with an interval.

Five folds hold out every real image once; that is repeated with other folds. In each, heads learn
from the other real images with and without k synthetic images per class. Where the sample allows
it, two heads take two separate halves of it, to see how much the choice of synthetic images
matters. With y[r,h,i] the change of held-out image i in repeat r with half h,

    variance = var_i(mean y) / images * (1 + 1/4)
             + k/sample * k/k' * mean_r (mean_i y[r,1,i] - mean_i y[r,2,i])^2 / 2

The first term is the choice of the images that are judged; 1/4, images held out over images learned
from, is the correction of Nadeau and Bengio (2003) for folds that learn from the same images. The
second is the choice of synthetic images, less what chance adds to it: each adds a little of its
own, so that more of them differ less. k' is k, or the largest that half of the sample has: beyond,
an image is taken to matter as much as there, which is more than it does (our choice). With
`per_class`, repeats learn from few images, nearly all different, and what they differ by is
measured instead of the 1/4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from scipy.special import stdtrit

from trainer.data.samples import Sample
from trainer.data.splits.folds import fold_splits, group_of
from trainer.errors import DataError
from trainer.quality.embedding.sets import LabelledFeatures
from trainer.quality.probabilities import fit_head

FOLDS = 5
_CHOOSING = 5  # fits that choose a penalty


@dataclass(frozen=True)
class Split:
    """Rows of the real images to learn from and to judge by, in repeat `repeat`."""

    repeat: int
    fit: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Gain:
    """A change in accuracy, -1 to 1, and its interval. Parts of its variance: `from_images` is the
    choice of real images, `from_sample` that of synthetic ones."""

    value: float
    low: float
    high: float
    from_images: float
    from_sample: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0


def make_splits(
    real: Sequence[Sample], *, repeats: int, per_class: int | None = None, seed: int = 0
) -> list[Split]:
    """For each repeat five folds, or as many as the smallest class has groups of images; or, with
    `per_class`, one split that learns from so many images of each class and judges by all others.

    Raises:
        DataError: a class has a single image, or no more than `per_class`.
    """
    if per_class is not None:
        return [
            Split(repeat, *_some(real, per_class, np.random.default_rng([seed, repeat])))
            for repeat in range(repeats)
        ]
    folds = _folds(real)
    return [
        Split(repeat, fit, held)
        for repeat in range(repeats)
        for fit, held in fold_splits(real, folds, seed=1000 * seed + repeat)
    ]


def _folds(real: Sequence[Sample]) -> int:
    groups: dict[str, set[str]] = {}
    for each in real:
        groups.setdefault(each.label, set()).add(group_of(each))
    label, smallest = min(groups.items(), key=lambda item: len(item[1]))
    if len(smallest) < 2:
        raise DataError(
            f"class '{label}' has one real training image, or one group of them; some must be held "
            "out, so give at least two"
        )
    return min(FOLDS, len(smallest))


def _some(
    real: Sequence[Sample], per_class: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, so many of each class, and the others, whole groups on one side."""
    wanted: dict[str, int] = {each.label: per_class for each in real}
    side: dict[str, bool] = {}
    fit, held = [], []
    for row in random.permutation(len(real)).tolist():
        each = real[row]
        learns = side.setdefault(group_of(each), wanted[each.label] > 0)
        if not learns:
            held.append(row)
        elif wanted[each.label] > 0:
            fit.append(row)
            wanted[each.label] -= 1
    judged = {real[row].label for row in held}
    short = [label for label, count in wanted.items() if count or label not in judged]
    if short:
        raise DataError(
            f"class '{short[0]}' has too few real training images to learn from {per_class} and to "
            "judge by others; give a smaller number"
        )
    return np.array(sorted(fit)), np.array(sorted(held))


@dataclass(frozen=True)
class Sampled:
    """The synthetic images: `derived` int64 [p,2] pairs some with real images that they show. Where
    such a real image judges, the synthetic one is not learned from."""

    rows: LabelledFeatures
    derived: np.ndarray

    def orders(self, split: Split, classes: int, seed: int) -> list[np.ndarray]:
        """For each class, the numbers of the images that may be learned from, in the order of this
        repeat."""
        random = np.random.default_rng([seed, split.repeat])
        order = random.permutation(len(self.rows))
        shown = self.derived[np.isin(self.derived[:, 1], split.held), 0]
        order = order[~np.isin(order, shown)]
        return [order[self.rows.labels[order] == label] for label in range(classes)]

    def most_per_class(self, splits: Sequence[Split], classes: int) -> int:
        """How many images of each class may be learned from in every split."""
        return min(len(each) for split in splits for each in self.orders(split, classes, 0))


@dataclass(frozen=True)
class Answers:
    """Which real images are classified correctly: float64 [repeats,halves,n], NaN where not held
    out; both halves are the same unless k is at most half of the sample."""

    k: int
    correct: np.ndarray
    halved: bool


def answers(
    real: LabelledFeatures,
    sample: Sampled,
    splits: Sequence[Split],
    ks: Sequence[int],
    *,
    classes: int,
    seed: int = 0,
    on_fit: Callable[[], None] = lambda: None,
) -> dict[int, Answers]:
    """The answers with k synthetic images per class; 0 is without any.

    Each k has one penalty, the median of those that five fits choose: choosing takes five times as
    long as fitting.
    """
    most = sample.most_per_class(splits, classes)

    def fit(split: Split, chosen: np.ndarray, strength: float | None) -> tuple[float, np.ndarray]:
        learned, held = real.take(split.fit), real.take(split.held)
        values = np.concatenate([learned.features, sample.rows.features[chosen]])
        head = fit_head(
            values,
            np.concatenate([learned.labels, sample.rows.labels[chosen]]),
            num_classes=classes,
            judged=np.arange(len(values)) < len(learned),
            strength=strength,
            seed=seed,
        )
        on_fit()
        right = head.logits(held.features).argmax(axis=1) == held.labels
        return head.strength, right.astype(np.float64)

    def chosen(split: Split, k: int, half: int) -> np.ndarray:
        orders = sample.orders(split, classes, seed)
        return np.concatenate([each[half * (most // 2) :][:k] for each in orders])

    found = {}
    for k in ks:
        halves = 2 if 0 < k <= most // 2 else 1
        strength = median_low(
            [fit(each, chosen(each, k, 0), None)[0] for each in splits[:_CHOOSING]]
        )
        repeats = 1 + max(each.repeat for each in splits)
        correct = np.full((repeats, 2, len(real)), np.nan)
        for split in splits:
            for half in range(halves):
                right = fit(split, chosen(split, k, half), strength)[1]
                correct[split.repeat, half, split.held] = right
            if halves == 1:
                correct[split.repeat, 1] = correct[split.repeat, 0]
        found[k] = Answers(k, correct, halves == 2)
    return found


def fits(splits: Sequence[Split], ks: Sequence[int], most: int) -> int:
    """How many heads `answers` fits with `most` synthetic images per class."""
    heads = sum(2 if 0 < k <= most // 2 else 1 for k in ks)
    return heads * len(splits) + len(ks) * len(splits[:_CHOOSING])


def gain(
    before: Answers,
    after: Answers,
    *,
    held: float,
    most: int,
    halved: Answers | None = None,
    confidence: float = 0.95,
) -> Gain:
    """The change in accuracy from `before` to `after`. `held` is the share of real images that a
    split judges by, `most` how many synthetic images of each class the sample has; `halved` are the
    answers with the largest k that two halves of it have, if not `after`."""
    change = after.correct - before.correct
    by_image = np.nanmean(change, axis=(0, 1))
    by_image = by_image[~np.isnan(by_image)]
    value, count, repeats = float(by_image.mean()), len(by_image), len(change)
    images = float(by_image.var(ddof=1)) / count
    if held < 0.5:
        learned, learned_df = images * held / (1 - held), count - 1.0
    else:
        by_repeat = np.nanmean(change, axis=(1, 2))
        learned = float(by_repeat.var(ddof=1)) * (1 / repeats + (1 - held) / held)
        learned_df = repeats - 1.0
    halved = after if after.halved else halved
    sample = 0.0
    if halved is not None:
        sample = _choice(halved.correct) * after.k**2 / (most * halved.k)
    variance = images + learned + sample
    if variance == 0:
        return Gain(value, value, value, 0.0, 0.0)
    parts = ((images, count - 1.0), (learned, learned_df), (sample, repeats - 1.0))
    df = variance**2 / sum(part**2 / free for part, free in parts)
    half = float(stdtrit(df, 0.5 + confidence / 2)) * variance**0.5
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return Gain(value, low, high, images + learned, sample)


def _choice(correct: np.ndarray) -> float:
    """The variance of accuracy over choices of synthetic images, from two separate ones in each
    repeat, [repeats,2,n], beyond what the judged images leave to chance."""
    apart = correct[:, 0] - correct[:, 1]
    count = (~np.isnan(apart)).sum(axis=1)
    chance = np.nanvar(apart, axis=1, ddof=1) / count
    return max(0.0, float((np.nanmean(apart, axis=1) ** 2 - chance).mean()) / 2)

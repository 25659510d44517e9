"""All that is found out about a set of synthetic images, beside the real ones: every score."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trainer.config.selection import REASONS
from trainer.data.samples import Sample
from trainer.errors import ConfigError
from trainer.quality.checking.copies import Copy, blank_reasons, find_copies
from trainer.quality.checking.groups import GroupFinding, check_groups
from trainer.quality.checking.labels import QUANTILE, LabelCheck, check_labels
from trainer.quality.checking.outliers import (
    Measured,
    check_kind,
    fit_outliers,
    held_out_scores,
    measured,
)
from trainer.quality.checking.realness import Realness, source_groups, tell_apart
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.embedding.features import Seen
from trainer.quality.images import MadeImages, RealImages
from trainer.quality.probabilities import compressed, softmax

DEFAULT_REASONS = ("label", "copy", "blank")
_CLIP_WORDS = "a photo of a {}"
_CLIP_SCALE = 100.0  # the logit scale that CLIPs end up with


@dataclass(frozen=True)
class CheckConfig:
    """What a check is asked. `reject` are the reasons for which an image is rejected; the other
    scores are only reported."""

    outlier: str = "msp"
    reject: tuple[str, ...] = DEFAULT_REASONS
    seed: int = 0

    def __post_init__(self) -> None:
        check_kind(self.outlier)
        for reason in self.reject:
            if reason not in REASONS:
                raise ConfigError(f"reason '{reason}' is unknown; choose from {', '.join(REASONS)}")


@dataclass(frozen=True)
class Judged:
    """Everything that is known of the images that could be decoded."""

    real: RealImages
    train: Seen
    samples: Sequence[Sample]
    seen: Seen
    labels: LabelCheck
    outlier: np.ndarray
    outlier_threshold: float
    outlier_quality: Measured | None
    realness: Realness
    copies: dict[int, Copy]
    blank: dict[int, str]
    groups: list[GroupFinding]
    clip: np.ndarray | None
    second: np.ndarray | None

    @property
    def told_threshold(self) -> float:
        """Five percent of the real images are less likely to be real."""
        return float(np.quantile(self.realness.real, QUANTILE))


def judge(
    real: RealImages,
    train: Seen,
    test: Seen | None,
    made: MadeImages,
    seen: Seen,
    whole: np.ndarray,
    embedder: Embedder,
    config: CheckConfig,
) -> Judged:
    """Every score of the images that `whole`, bool [n], says could be decoded.

    `train`, `test` and `seen` are what is known of the real training and test images and of the n
    synthetic ones.
    """
    rows = np.flatnonzero(whole)
    samples, origins = [made.samples[row] for row in rows], [made.origins[row] for row in rows]
    seen = seen if len(rows) == len(seen) else seen.take(rows)
    tested = (real.test, test or train.take(slice(0)))
    # Pictures are compared on one core while heads are trained on another.
    pool = ThreadPoolExecutor(1)
    copies = pool.submit(find_copies, samples, seen, train=(real.train, train), test=tested)
    pool.shutdown(wait=False)
    values = compressed(np.concatenate([train.features, seen.features]))
    ours, theirs = values[: len(train)], values[len(train) :]
    number = {label: index for index, label in enumerate(real.classes)}
    our_labels, their_labels = (
        np.array([number[each.label] for each in part]) for part in (real.train, samples)
    )
    labels = check_labels(
        ours, our_labels, theirs, their_labels, num_classes=len(real.classes), seed=config.seed
    )
    quality = measured(config.outlier, ours, our_labels, strength=labels.strength)
    sign = quality.sign if quality else 1
    held = sign * held_out_scores(config.outlier, ours, our_labels, strength=labels.strength)
    score = fit_outliers(config.outlier, ours, our_labels, strength=labels.strength)
    outlier, limit = sign * score(theirs), float(np.quantile(held, 1 - QUANTILE))
    groups = check_groups(
        values,
        np.concatenate([our_labels, their_labels]),
        [*[None] * len(ours), *origins],
        classes=real.classes,
        strength=labels.strength,
        strange=np.concatenate([held > limit, (outlier > limit) | labels.rejected]),
    )
    return Judged(
        real=real,
        train=train,
        samples=samples,
        seen=seen,
        labels=labels,
        outlier=outlier,
        outlier_threshold=limit,
        outlier_quality=quality,
        realness=tell_apart(
            ours, theirs, groups=source_groups(real.train, samples, origins), seed=config.seed
        ),
        # An image that was made from a real one may look like it.
        copies={
            row: copy
            for row, copy in copies.result().items()
            if copy.of.file != origins[row].source_image
        },
        blank=blank_reasons(seen),
        groups=groups,
        clip=_by_words(embedder, seen, real.classes, their_labels),
        second=_second_opinion(labels.made, their_labels),
    )


def _by_words(
    embedder: Embedder, seen: Seen, classes: Sequence[str], labels: np.ndarray
) -> np.ndarray | None:
    """CLIP's zero-shot probability of each image's own class, where the embedder is a CLIP."""
    if embedder.classify_words is None:
        return None
    import torch

    words = [_CLIP_WORDS.format(label) for label in classes]
    cosine = embedder.classify_words(torch.from_numpy(seen.features), words).numpy()
    own: np.ndarray = softmax(_CLIP_SCALE * cosine)[np.arange(len(labels)), labels]
    return own


def _second_opinion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """1 where cleanlab (extra [quality]) calls the label an issue, by confident learning
    (Northcutt et al. 2021), on the same probabilities; None without it."""
    if importlib.util.find_spec("cleanlab") is None or len(np.unique(labels)) < 2:
        return None
    from cleanlab.filter import find_label_issues

    known = np.unique(labels)
    dense = np.searchsorted(known, labels)
    part = probabilities[:, known]
    issues = find_label_issues(dense, part / part.sum(axis=1, keepdims=True), n_jobs=1)
    return np.asarray(issues, dtype=float)

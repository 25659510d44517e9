"""`check`: is each synthetic image what its label says, and usable? Scores, thresholds, verdicts.

Results lie beside the labelled folder, whose records stay as they are:

    <folder>.quality/<scorer>.csv      one row an image: verdict, reason, scores
    <folder>.quality/<scorer>.json     config, versions, fingerprints, thresholds, groups, counts
    <folder>.quality/features/         what the embedder saw, so that nothing is computed twice
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from comfy_nodes.labelset.quality.verdicts import Verdict, quality_folder, write_verdicts
from trainer.data.samples import fingerprint
from trainer.data.shards import Member
from trainer.errors import DataError
from trainer.quality.checking.groups import GroupFinding
from trainer.quality.checking.judging import CheckConfig, Judged, judge
from trainer.quality.checking.summary import FORMAT, summary_of
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.embedding.features import common_size, see
from trainer.quality.images import MadeImages, RealImages
from trainer.runs import to_json, write_file

DAMAGED = "damaged"  # always a reason


@dataclass(frozen=True)
class Check:
    """What a check found; `summary` is what its JSON file holds. `packed` are the images that lie
    in tar shards, by file name."""

    path: Path
    verdicts: tuple[Verdict, ...]
    groups: tuple[GroupFinding, ...]
    summary: dict[str, Any] = field(repr=False)
    packed: Mapping[str, Member] = field(default_factory=dict, repr=False)

    @property
    def rejected(self) -> int:
        """How many images."""
        return sum(each.rejected for each in self.verdicts)


def run_check(
    real: RealImages, made: MadeImages, embedder: Embedder, config: CheckConfig | None = None
) -> Check:
    """Judges every image of `made` and writes the results into its quality folder.

    Raises:
        DataError: a real image cannot be decoded, or a class has too few real images.
        LabelsetError: the results cannot be written.
    """
    config = config or CheckConfig()
    real = real.without(embedder.trained_on)
    _check_counts(real)
    folder = quality_folder(made.root)
    common_px = common_size([real.train, made.samples], embedder)
    damaged: dict[str, str] = {}
    look = partial(see, embedder=embedder, common_px=common_px, cache=folder / "features")
    train = look(real.train, what="real images")
    test = look(real.test, what="real test images") if real.test else None
    seen = look(made.samples, what="synthetic images", damaged=damaged)
    whole = np.array([each.sha256 not in damaged for each in made.samples])
    if not whole.any():
        raise DataError(f"no image of {made.root} can be decoded: {next(iter(damaged.values()))}")
    with threadpool_limits(1):  # small matrices; more threads only wait for each other
        judged = judge(real, train, test, made, seen, whole, embedder, config)
    verdicts = _verdicts(made, whole, damaged, judged, config)
    name = _name(real, made, embedder, common_px, config)
    summary = summary_of(real, made, embedder, common_px, config, judged, verdicts)
    path = folder / f"{name}.csv"
    write_verdicts(path, verdicts)
    write_file(path.with_suffix(".json"), to_json(summary))
    packed = {each.file: each.path for each in made.samples if isinstance(each.path, Member)}
    return Check(path, tuple(verdicts), tuple(judged.groups), summary, packed)


def _check_counts(real: RealImages) -> None:
    for label, count in Counter(each.label for each in real.train).items():
        if count < 2:
            raise DataError(
                f"class '{label}' has {count} real image; to judge by images that a head has not "
                "seen, each class needs at least 2"
            )


def _verdicts(
    made: MadeImages,
    whole: np.ndarray,
    damaged: dict[str, str],
    judged: Judged,
    config: CheckConfig,
) -> list[Verdict]:
    reasons = _reasons(judged, config)
    found, row = [], 0
    for sample, is_whole in zip(made.samples, whole, strict=True):
        if is_whole:
            verdict = Verdict(
                sample.sha256, sample.file, sample.label, reasons[row], _scores(judged, row)
            )
            row += 1
        else:
            why = f"{DAMAGED}: {damaged[sample.sha256].replace(str(sample.path), sample.file)}"
            verdict = Verdict(sample.sha256, sample.file, sample.label, why)
        found.append(verdict)
    return found


def _scores(judged: Judged, row: int) -> dict[str, float]:
    copy = judged.copies.get(row)
    scores = {
        "label": float(judged.labels.own[row]),
        "outlier": float(judged.outlier[row]),
        "real": float(judged.realness.made[row]),
        "copy": copy.correlation if copy else 0.0,
        "lowest": float(judged.seen.range[row, 0]),
        "highest": float(judged.seen.range[row, 1]),
    }
    if judged.clip is not None:
        scores["clip"] = float(judged.clip[row])
    if judged.second is not None:
        scores["cleanlab"] = float(judged.second[row])
    return scores


def _reasons(judged: Judged, config: CheckConfig) -> list[str]:
    """Why each image is rejected, "" if it is not; the first reason counts."""
    own, threshold = judged.labels.own, judged.labels.threshold
    limit, told = judged.outlier_threshold, judged.told_threshold
    found = []
    for row, sample in enumerate(judged.samples):
        copy, why = judged.copies.get(row), ""
        if row in judged.blank and "blank" in config.reject:
            why = f"blank: {judged.blank[row]}"
        elif copy is not None and "copy" in config.reject:
            of = f"real {copy.part}" if copy.part != "synthetic" else copy.part
            why = f"copy: the same picture as {of} image {copy.of.file} ({copy.correlation:.2f})"
        elif own[row] < threshold and "label" in config.reject:
            likely = judged.real.classes[int(judged.labels.made[row].argmax())]
            instead = f"looks like '{likely}', " if likely != sample.label else ""
            why = f"label: {instead}'{sample.label}' {own[row]:.3f} is below {threshold:.3f}"
        elif judged.outlier[row] > limit and "outlier" in config.reject:
            why = f"outlier: {judged.outlier[row]:.3f} is above {limit:.3f}"
        elif judged.realness.made[row] < told and "real" in config.reject:
            why = f"real: {judged.realness.made[row]:.3f} is below {told:.3f}"
        found.append(why)
    return found


def _name(
    real: RealImages, made: MadeImages, embedder: Embedder, common_px: int, config: CheckConfig
) -> str:
    asked = json.dumps([FORMAT, asdict(config), embedder.fingerprint, common_px])
    images = "".join(map(fingerprint, (real.train, real.test, made.samples)))
    digest = hashlib.sha256((asked + images).encode()).hexdigest()[:10]
    return f"{embedder.name.replace(':', '-').replace('/', '-')}-{digest}"
